package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func newTestAuthority(t *testing.T) *authority {
	t.Helper()
	a, err := openAuthority(filepath.Join(t.TempDir(), "pki"), "test")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func readCert(t *testing.T, a *authority, name string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.path(name+".crt"), a.path(name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestControlPlaneCertificates(t *testing.T) {
	a := newTestAuthority(t)
	if err := a.issueControlPlane(); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	serving := readCert(t, a, "apiserver")
	for _, host := range []string{"127.0.0.1", controlPlaneIP, serviceAPIIP, "kubernetes.default.svc", "localhost"} {
		if _, err := serving.Verify(x509.VerifyOptions{DNSName: host, Roots: roots}); err != nil {
			t.Errorf("the API server cannot serve as %s: %v", host, err)
		}
	}
	admin := readCert(t, a, "admin")
	if got := admin.Subject.Organization; len(got) != 1 || got[0] != groupMasters {
		t.Errorf("admin is in groups %q, want %s only", got, groupMasters)
	}
	for _, restricted := range []string{"controller-manager", "scheduler"} {
		if got := readCert(t, a, restricted).Subject.Organization; len(got) != 0 {
			t.Errorf("%s is in groups %q, want none", restricted, got)
		}
	}
}

func TestNodeCertificateIsTheNodes(t *testing.T) {
	a := newTestAuthority(t)
	if err := a.issueNode(2); err != nil {
		t.Fatal(err)
	}
	cert := readCert(t, a, "node2")
	if cert.Subject.CommonName != "system:node:node2" || cert.Subject.Organization[0] != "system:nodes" {
		t.Errorf("subject %v, want system:node:node2 in system:nodes", cert.Subject)
	}
	if err := cert.VerifyHostname(nodeIP(2)); err != nil {
		t.Error(err)
	}
	if err := cert.VerifyHostname(nodeIP(1)); err == nil {
		t.Error("the certificate of node 2 also serves the address of node 1")
	}
}

func TestAuthorityIsKept(t *testing.T) {
	first := newTestAuthority(t)
	if err := first.issue("x", "x", nil); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(first.path("x.crt"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := openAuthority(first.dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	if !second.cert.Equal(first.cert) {
		t.Error("opening the authority a second time made a new one")
	}
	if err := second.issue("x", "x", nil); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(first.path("x.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("issuing a certificate a second time replaced it")
	}
	if err := os.WriteFile(first.path("ca.crt"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openAuthority(first.dir, "test"); err == nil || !strings.Contains(err.Error(), "is not PEM: run down, then up") {
		t.Errorf("a broken certificate gives %v, want what to do about it", err)
	}
}

func TestKeysAreNotReadableByOthers(t *testing.T) {
	a := newTestAuthority(t)
	for _, file := range []string{"ca.key", "sa.key"} {
		info, err := os.Stat(a.path(file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", file, info.Mode())
		}
	}
}
