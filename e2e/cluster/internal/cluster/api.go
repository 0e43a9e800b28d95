package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// The content types of the API server's patches.
const (
	applyPatch = "application/apply-patch+yaml"
	mergePatch = "application/merge-patch+json"
)

// fieldManager owns the fields that this program applies.
const fieldManager = "weightlock-e2e"

// apiClient speaks to the API server through the loopback port, as cluster-admin.
type apiClient struct {
	http *http.Client
	base string
}

// apiError is an answer of the API server other than success.
type apiError struct {
	Code    int
	Message string
}

func (e *apiError) Error() string { return fmt.Sprintf("API server: %d: %s", e.Code, e.Message) }

func isConflict(err error) bool {
	var e *apiError
	return errors.As(err, &e) && e.Code == http.StatusConflict
}

func newAPIClient(a *authority, port int) (*apiClient, error) {
	ca, err := os.ReadFile(a.path("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	cert, err := tls.LoadX509KeyPair(a.path("admin.crt"), a.path("admin.key"))
	if err != nil {
		return nil, err
	}
	return &apiClient{base: loopbackServer(port), http: &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}},
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: 5 * time.Second,
		},
	}}, nil
}

// api gives the client of this cluster.
func (c *Cluster) api() (*apiClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		client, err := newAPIClient(&authority{dir: c.path("pki")}, c.state.APIPort)
		if err != nil {
			return nil, err
		}
		c.client = client
	}
	return c.client, nil
}

// do sends one request and decodes the answer into out, if out is not nil.
func (a *apiClient) do(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		var status struct{ Message string }
		if json.Unmarshal(raw, &status) != nil || status.Message == "" {
			status.Message = strings.TrimSpace(string(raw))
		}
		return &apiError{Code: resp.StatusCode, Message: status.Message}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(raw, out)
}

func (a *apiClient) get(ctx context.Context, path string, out any) error {
	return a.do(ctx, http.MethodGet, path, "", nil, out)
}

// apply makes the object at path what the text (YAML or JSON) says, and leaves fields that it does not name alone.
func (a *apiClient) apply(ctx context.Context, path string, text []byte) error {
	return a.do(ctx, http.MethodPatch, path+"?force=true&fieldManager="+fieldManager, applyPatch, text, nil)
}

// ready asks whether the API server serves.
func (a *apiClient) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return a.get(ctx, "/readyz", nil)
}

// nodeInfo is what this program reads of a Node.
type nodeInfo struct {
	Metadata struct{ Name string }
	Spec     struct{ PodCIDRs []string }
	Status   struct {
		Conditions  []condition
		Allocatable map[string]string
		NodeInfo    struct{ KubeletVersion, ContainerRuntimeVersion, KernelVersion string }
	}
}

// condition is a condition of any Kubernetes object.
type condition struct {
	Type, Status, Message string
	LastHeartbeatTime     time.Time
}

// ready tells whether the node's kubelet, since the node booted, has reported that it is Ready, and else why not.
func (n nodeInfo) ready(booted time.Time) (bool, string) {
	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" && !c.LastHeartbeatTime.Before(booted) {
			return c.Status == "True", c.Message
		}
	}
	return false, "the kubelet has not reported since the node booted"
}

func (a *apiClient) nodes(ctx context.Context) (map[string]nodeInfo, error) {
	var list struct{ Items []nodeInfo }
	if err := a.get(ctx, "/api/v1/nodes", &list); err != nil {
		return nil, err
	}
	byName := make(map[string]nodeInfo, len(list.Items))
	for _, n := range list.Items {
		byName[n.Metadata.Name] = n
	}
	return byName, nil
}
