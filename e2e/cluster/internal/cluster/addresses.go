package cluster

import (
	"errors"
	"fmt"
	"os"
)

// The address plan. It exists only inside the members' network namespaces, so every cluster uses the same one. Names
// that end in 6 are those of IPv6, which a dual-stack cluster has as well: unique local addresses, a prefix for each
// of the three networks.
const (
	controlPlaneIP  = "10.99.0.1"
	controlPlaneIP6 = "fd00:10:99::1"
	podNetwork      = "10.244.0.0/16"
	podNetwork6     = "fd00:10:244::/48"
	serviceNetwork  = "10.96.0.0/16"
	serviceNetwork6 = "fd00:10:96::/112"
	serviceAPIIP    = "10.96.0.1"
	serviceDNSIP    = "10.96.0.10"
	serviceDNSIP6   = "fd00:10:96::a"
	clusterDomain   = "cluster.local"

	apiPort      = 6443
	etcdPort     = 2379
	etcdPeerPort = 2380
)

func nodeName(i int) string   { return fmt.Sprintf("node%d", i) }
func nodeIP(i int) string     { return fmt.Sprintf("10.99.0.1%d", i) }
func nodeIP6(i int) string    { return fmt.Sprintf("fd00:10:99::1%d", i) }
func nodeLink(i int) string   { return fmt.Sprintf("vnode%d", i) }
func podSubnet(i int) string  { return fmt.Sprintf("10.244.%d.0/24", i) }
func podSubnet6(i int) string { return fmt.Sprintf("fd00:10:244:%d::/64", i) }

// nodeMAC is what node i of a dual-stack cluster has for its network card, in every life: the others believe for up to
// 45 s that it is still where it was, and unlike with ARP nothing that a node sends by itself tells them otherwise.
func nodeMAC(i int) string { return fmt.Sprintf("02:00:0a:63:00:1%d", i) }

// perFamily gives what a cluster with these options has: ipv4 alone, or ipv4 and ipv6 in this order, by which
// Kubernetes takes IPv4 for the primary family.
func (o Options) perFamily(ipv4, ipv6 string) []string {
	if o.DualStack {
		return []string{ipv4, ipv6}
	}
	return []string{ipv4}
}

// bridgeCommands are the ip(8) commands that make the bridge in the control plane and its routes to the pods: the API
// server calls webhooks by the addresses of their pods.
func (c *Cluster) bridgeCommands() []string {
	commands := []string{
		"link set lo up",
		"link add br0 type bridge",
		"addr add " + controlPlaneIP + "/24 dev br0",
		"link set br0 up",
	}
	if c.state.DualStack {
		// nodad: nobody else is on this link, and an address that is checked for duplicates first cannot be used yet.
		commands = append(commands, "addr add "+controlPlaneIP6+"/64 dev br0 nodad")
	}
	for _, i := range c.nodes() {
		commands = append(commands, fmt.Sprintf("route add %s via %s", podSubnet(i), nodeIP(i)))
		if c.state.DualStack {
			commands = append(commands, fmt.Sprintf("route add %s via %s", podSubnet6(i), nodeIP6(i)))
		}
	}
	return commands
}

// uplinkCommands are the ip(8) commands that give node i its addresses and its way to the control plane.
func (c *Cluster) uplinkCommands(i int) []string {
	var commands []string
	if c.state.DualStack {
		commands = append(commands, "link set eth0 address "+nodeMAC(i))
	}
	commands = append(commands,
		"link set lo up",
		fmt.Sprintf("addr add %s/24 dev eth0", nodeIP(i)),
		"link set eth0 up",
		"route add default via "+controlPlaneIP)
	if c.state.DualStack {
		commands = append(commands,
			fmt.Sprintf("addr add %s/64 dev eth0 nodad", nodeIP6(i)),
			"route add default via "+controlPlaneIP6)
	}
	return commands
}

// forwardingSysctls are the settings by which a node passes on the packets of its pods. They belong to the network
// namespace of whoever writes them.
func (o Options) forwardingSysctls() []string {
	return o.perFamily("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
}

// checkKernel refuses options that this machine's kernel cannot serve.
func (o Options) checkKernel() error {
	const ipv6 = "/proc/sys/net/ipv6"
	if !o.DualStack {
		return nil
	}
	if _, err := os.Stat(ipv6); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("--dual-stack: this kernel has no IPv6 (there is no %s): leave the flag out", ipv6)
	}
	return nil
}
