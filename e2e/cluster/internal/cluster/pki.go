package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLifetime is longer than any cluster of this kind lives.
const certificateLifetime = 5 * 365 * 24 * time.Hour

// authority issues the certificates of one cluster. It keeps them as files NAME.crt and NAME.key in dir.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// openAuthority reads the authority in dir, or makes it with the key that signs service account tokens (sa.key, sa.pub).
func openAuthority(dir, cluster string) (*authority, error) {
	a := &authority{dir: dir}
	certPEM, err := os.ReadFile(a.path("ca.crt"))
	if errors.Is(err, fs.ErrNotExist) {
		return a, a.create(cluster)
	} else if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(a.path("ca.key"))
	if err != nil {
		return nil, err
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s or ca.key beside it is not PEM: run down, then up", a.path("ca.crt"))
	}
	if a.cert, err = x509.ParseCertificate(certBlock.Bytes); err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	ecKey, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an ECDSA key: run down, then up", a.path("ca.key"))
	}
	a.key = ecKey
	return a, nil
}

func (a *authority) path(file string) string { return filepath.Join(a.dir, file) }

func (a *authority) create(cluster string) error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	saKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	saPublic, err := x509.MarshalPKIXPublicKey(saKey.Public())
	if err != nil {
		return err
	}
	if err := errors.Join(a.writeKey("sa", saKey), a.writePEM("sa.pub", "PUBLIC KEY", saPublic)); err != nil {
		return err
	}
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	template, err := newTemplate(pkix.Name{CommonName: cluster + "-ca"})
	if err != nil {
		return err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	// The certificate is written last: it is what tells openAuthority that the rest is there.
	return errors.Join(a.writeKey("ca", a.key), a.writePEM("ca.crt", "CERTIFICATE", der))
}

func newTemplate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: subject,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLifetime)}, nil
}

// issue writes a certificate and key called file for the user name in the given groups, valid also to serve under the
// given names and addresses. It leaves a certificate that exists as it is.
func (a *authority) issue(file, name string, groups []string, hosts ...string) error {
	if _, err := os.Stat(a.path(file + ".crt")); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template, err := newTemplate(pkix.Name{CommonName: name, Organization: groups})
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	return errors.Join(a.writeKey(file, key), a.writePEM(file+".crt", "CERTIFICATE", der))
}

func (a *authority) writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return a.writePEM(file+".key", "PRIVATE KEY", der)
}

func (a *authority) writePEM(file, kind string, der []byte) error {
	return writeFile(a.path(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// writeFile writes a file under another name and renames it, so that no reader meets half of it.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, mode); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

const groupMasters = "system:masters"

// issueControlPlane issues all certificates of the control plane.
func (a *authority) issueControlPlane() error {
	return errors.Join(
		a.issue("apiserver", "kube-apiserver", nil, controlPlaneIP, "127.0.0.1", serviceAPIIP, "localhost",
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc."+clusterDomain),
		a.issue("admin", "admin", []string{groupMasters}),
		a.issue("kubelet-client", "apiserver-kubelet-client", []string{groupMasters}),
		a.issue("controller-manager", "system:kube-controller-manager", nil),
		a.issue("scheduler", "system:kube-scheduler", nil),
		a.issue("front-proxy", "front-proxy-client", nil),
	)
}

// issueNode issues the certificates of node i: the kubelet's (client and server), kube-proxy's and Cilium's.
func (a *authority) issueNode(i int) error {
	n := nodeName(i)
	return errors.Join(
		a.issue(n, "system:node:"+n, []string{"system:nodes"}, nodeIP(i), n),
		a.issue("proxy", "system:kube-proxy", nil),
		a.issue("cilium", "cilium-agent", []string{groupMasters}),
	)
}
