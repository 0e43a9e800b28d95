package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"weightlock.dev/e2e/cluster/internal/artifacts"
)

// containerdConfig is containerd's configuration: NRI on, and its validator too, so that a pod that requires an NRI
// plugin does not start without it.
func containerdConfig(cni, runc string) string {
	return fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]

[grpc]
  address = %[1]q

[plugins.'io.containerd.nri.v1.nri']
  disable = false
  [plugins.'io.containerd.nri.v1.nri'.default_validator]
    enable = true

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = %[2]q

[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE nothing may lower its OOM score, and runc would fail to start a container.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = [%[3]q]
    conf_dir = "/run/cni/net.d"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = %[4]q
      SystemdCgroup = false
`, containerdSocket, artifacts.PauseImage, cni, runc)
}

// kubeletConfig is the KubeletConfiguration of node i.
func (c *Cluster) kubeletConfig(i int) ([]byte, error) {
	name := nodeName(i)
	return json.MarshalIndent(map[string]any{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"failCgroupV1":             false,
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               "/" + c.kubeletCgroup(name),
		"oomScoreAdj":              0,
		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"address":                  nodeIP(i),
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": c.path("pki", "ca.crt")},
		},
		"authorization":             map[string]any{"mode": "Webhook"},
		"tlsCertFile":               c.path("pki", name+".crt"),
		"tlsPrivateKeyFile":         c.path("pki", name+".key"),
		"clusterDomain":             clusterDomain,
		"clusterDNS":                []string{serviceDNSIP},
		"resolvConf":                c.path(name, "etc", "resolv.conf"),
		"failSwapOn":                false,
		"enforceNodeAllocatable":    []string{"pods"},
		"nodeStatusUpdateFrequency": "4s",
		"nodeLeaseDurationSeconds":  20,
		// The kubelet makes this directory; its default is one of the host's.
		"volumePluginDir":      "/var/lib/kubelet/volume-plugins",
		"volumeStatsAggPeriod": "1m",
		// The disk and the memory are the host's and shared by all nodes: no node may evict or collect because of others.
		"evictionHard": map[string]string{"memory.available": "100Mi", "nodefs.available": "1%",
			"nodefs.inodesFree": "1%", "imagefs.available": "1%"},
		"imageGCHighThresholdPercent": 100,
	}, "", "  ")
}

// proxyConfig is the KubeProxyConfiguration of node i.
func (c *Cluster) proxyConfig(i int) ([]byte, error) {
	name := nodeName(i)
	return json.MarshalIndent(map[string]any{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"mode":               "nftables",
		"clusterCIDR":        strings.Join(c.state.perFamily(podNetwork, podNetwork6), ","),
		"hostnameOverride":   name,
		"bindAddress":        nodeIP(i),
		"oomScoreAdj":        0,
		"healthzBindAddress": "127.0.0.1:10256",
		"metricsBindAddress": "127.0.0.1:10249",
		"clientConnection":   map[string]any{"kubeconfig": c.path(name, "etc", "proxy.kubeconfig")},
		// These settings belong to the whole machine: leave them as they are.
		"conntrack": map[string]any{"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
	}, "", "  ")
}

// writeNodeConfig writes the files that the programs of node i are started with.
func (c *Cluster) writeNodeConfig(i int) error {
	name := nodeName(i)
	etc := func(file string) string { return c.path(name, "etc", file) }
	if err := os.MkdirAll(etc(""), 0o755); err != nil {
		return err
	}
	kubelet, err := c.kubeletConfig(i)
	if err != nil {
		return err
	}
	proxy, err := c.proxyConfig(i)
	if err != nil {
		return err
	}
	authority := &authority{dir: c.path("pki")}
	return errors.Join(
		writeFile(etc("containerd.toml"), []byte(containerdConfig(c.set.CNI, filepath.Join(c.set.Bin, "runc"))), 0o644),
		writeFile(etc("kubelet.json"), kubelet, 0o644),
		writeFile(etc("proxy.json"), proxy, 0o644),
		// Pods that use the node's resolver get none: this cluster has no way out.
		writeFile(etc("resolv.conf"), nil, 0o644),
		authority.kubeconfig(etc("kubelet.kubeconfig"), c.name, insideServer(), name),
		authority.kubeconfig(etc("proxy.kubeconfig"), c.name, insideServer(), "proxy"),
		authority.kubeconfig(etc("cilium.kubeconfig"), c.name, insideServer(), "cilium"),
	)
}

func containerdCommand(c *Cluster, member string) (command, error) {
	return c.nodeProgram("containerd", "--config="+c.path(member, "etc", "containerd.toml")), nil
}

func kubeletCommand(c *Cluster, member string) (command, error) {
	i := nodeNumber(member)
	return c.nodeProgram("kubelet", "--config="+c.path(member, "etc", "kubelet.json"),
		"--kubeconfig="+c.path(member, "etc", "kubelet.kubeconfig"),
		"--hostname-override="+member, "--node-ip="+strings.Join(c.state.perFamily(nodeIP(i), nodeIP6(i)), ","), "--root-dir=/var/lib/kubelet"), nil
}

func proxyCommand(c *Cluster, member string) (command, error) {
	return c.nodeProgram("kube-proxy", "--config="+c.path(member, "etc", "proxy.json")), nil
}

func fakeGPUCommand(c *Cluster, member string) (command, error) {
	return c.nodeProgram("fakegpu", "-node="+member, "-resource="+gpuResource+"=8", "-resource="+migResource+"=4"), nil
}

// The extended resources that every node pretends to have.
const (
	gpuResource = "nvidia.com/gpu"
	migResource = "nvidia.com/mig-1g.10gb"
)
