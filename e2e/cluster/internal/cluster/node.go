package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const containerdSocket = "/run/containerd/containerd.sock"

// nodeMounts are the directories of a node that it has to itself, by the name of their place in its state.
var nodeMounts = []struct{ from, to string }{
	{"run", "/run"},
	// A mount of its own, apart from /run: else Cilium makes its CNI configuration here and moves it into place, and
	// containerd does not notice a file that was moved in from elsewhere.
	{"tmp", nodeTemporary},
	{"lib", "/var/lib"},
	{"varlog", "/var/log"},
	{"mnt", "/mnt"},
}

// nodeTemporary is where the programs of a node put temporary files.
const nodeTemporary = "/run/tmp"

// nodeDirectories are made inside a node once those are mounted.
var nodeDirectories = []string{
	"/run/netns", "/run/lock", "/run/cni/net.d",
	"/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/lib/cilium",
	"/var/log/pods", "/var/log/containers", "/mnt/weights",
}

// Weights is the directory of the host that node i sees as /mnt/weights.
func (c *Cluster) Weights(i int) string { return c.path(nodeName(i), "mnt", "weights") }

// bootNode makes the namespaces of node i and brings its container runtime up with all images. The API server need
// not answer yet.
func (c *Cluster) bootNode(ctx context.Context, i int) error {
	name := nodeName(i)
	// What lay in /run does not outlive a boot.
	if err := errors.Join(os.RemoveAll(c.path(name, "run")), os.RemoveAll(c.path(name, "tmp"))); err != nil {
		return err
	}
	for _, m := range nodeMounts {
		if err := os.MkdirAll(c.path(name, m.from), 0o755); err != nil {
			return err
		}
	}
	if err := c.writeNodeConfig(i); err != nil {
		return err
	}
	holder, err := c.startMember(name)
	if err != nil {
		return err
	}
	if err := c.plugIn(ctx, i, holder); err != nil {
		return err
	}
	if err := settle(ctx, holder, name); err != nil {
		return err
	}
	if err := inside(holder.Pid, memberNamespaces, func() error { return c.mountNode(name) }); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := c.copyDatapath(name); err != nil {
		return err
	}
	if err := c.start(name, containerd); err != nil {
		return err
	}
	if err := c.waitFor(ctx, name, containerd, 60*time.Second, c.containerdAnswers(holder)); err != nil {
		return err
	}
	return c.importBaseImages(ctx, name)
}

// plugIn connects a node to the control plane's bridge.
func (c *Cluster) plugIn(ctx context.Context, i int, holder process) error {
	hub, link := c.member(controlPlane).Holder, nodeLink(i)
	err := c.ip(ctx, hub,
		"-link delete "+link, // of an earlier life of the node, if the kernel has not removed it yet
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", link, holder.Pid),
		fmt.Sprintf("link set %s master br0 up", link))
	if err != nil {
		return err
	}
	return c.ip(ctx, holder, c.uplinkCommands(i)...)
}

// mountNode must run inside the node.
func (c *Cluster) mountNode(name string) error {
	// Pods with mount propagation need shared mounts; they are shared within this node only.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts within the node: %w", err)
	}
	if err := coverSysctls(c.path(name, "sysctl")); err != nil {
		return err
	}
	for _, m := range nodeMounts {
		if err := os.MkdirAll(m.to, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(c.path(name, m.from), m.to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount over %s: %w", m.to, err)
		}
	}
	for _, dir := range nodeDirectories {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("bpf", "/sys/fs/bpf", "bpf", 0, ""); err != nil {
		return fmt.Errorf("mount /sys/fs/bpf: %w: the kernel needs CONFIG_BPF_SYSCALL", err)
	}
	for _, forwarding := range c.state.forwardingSysctls() {
		if err := os.WriteFile(forwarding, []byte("1"), 0o644); err != nil {
			return err
		}
	}
	err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0o644)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// copyDatapath gives the Cilium agent the writable copy of its datapath's source that it compiles from.
func (c *Cluster) copyDatapath(name string) error {
	to := c.path(name, "lib", "cilium", "bpf")
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	unfinished := to + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(unfinished), 0o755); err != nil {
		return err
	}
	if err := os.CopyFS(unfinished, os.DirFS(c.set.CiliumBPF)); err != nil {
		return fmt.Errorf("copy Cilium's datapath: %w", err)
	}
	return os.Rename(unfinished, to)
}

// containerdAnswers checks that something accepts connections on the node's containerd socket.
func (c *Cluster) containerdAnswers(holder process) func(context.Context) error {
	return func(ctx context.Context) error {
		return inside(holder.Pid, unix.CLONE_NEWNS, func() error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", containerdSocket)
			if err != nil {
				return err
			}
			return conn.Close()
		})
	}
}

// startNodeComponents starts what needs the API server: kubelet, kube-proxy, Cilium, and the pretended GPUs.
func (c *Cluster) startNodeComponents(ctx context.Context, i int) error {
	for _, comp := range nodeComponents {
		if err := c.start(nodeName(i), comp); err != nil {
			return err
		}
	}
	return nil
}
