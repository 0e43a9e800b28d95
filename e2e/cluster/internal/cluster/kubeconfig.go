package cluster

import (
	"encoding/base64"
	"fmt"
	"os"
)

// renderKubeconfig gives the text of a kubeconfig whose only context is named after the cluster.
func renderKubeconfig(cluster, server string, ca, cert, key []byte) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: %[1]s
  cluster:
    server: %[2]s
    certificate-authority-data: %[3]s
users:
- name: %[1]s
  user:
    client-certificate-data: %[4]s
    client-key-data: %[5]s
contexts:
- name: %[1]s
  context:
    cluster: %[1]s
    user: %[1]s
current-context: %[1]s
`, cluster, server, b64(ca), b64(cert), b64(key))
}

// kubeconfig writes a kubeconfig to file for the certificate called user.
func (a *authority) kubeconfig(file, cluster, server, user string) error {
	ca, err := os.ReadFile(a.path("ca.crt"))
	if err != nil {
		return err
	}
	cert, err := os.ReadFile(a.path(user + ".crt"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(a.path(user + ".key"))
	if err != nil {
		return err
	}
	return writeFile(file, renderKubeconfig(cluster, server, ca, cert, key), 0o600)
}

// insideServer is the API server's address for the members of the cluster.
func insideServer() string { return fmt.Sprintf("https://%s:%d", controlPlaneIP, apiPort) }

// loopbackServer is the API server's address for the host.
func loopbackServer(port int) string { return fmt.Sprintf("https://127.0.0.1:%d", port) }
