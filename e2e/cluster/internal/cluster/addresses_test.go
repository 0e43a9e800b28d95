package cluster

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func dualStackCluster() *Cluster {
	o := DefaultOptions()
	o.DualStack = true
	return testCluster(o)
}

func TestIPv6PlanIsConsistent(t *testing.T) {
	unique := netip.MustParsePrefix("fd00::/8")
	networks := []netip.Prefix{netip.MustParsePrefix(controlPlaneIP6 + "/64").Masked(), netip.MustParsePrefix(podNetwork6), netip.MustParsePrefix(serviceNetwork6)}
	links, pods, services := networks[0], networks[1], networks[2]
	for i, n := range networks {
		if n != n.Masked() || !unique.Contains(n.Addr()) {
			t.Errorf("%s is not a network of unique local addresses", n)
		}
		for _, other := range networks[i+1:] {
			if n.Overlaps(other) {
				t.Errorf("%s and %s overlap", n, other)
			}
		}
	}
	// The API server takes no larger range of Services.
	if services.Bits() < 108 || !services.Contains(netip.MustParseAddr(serviceDNSIP6)) {
		t.Errorf("%s is no range of Services with %s in it", services, serviceDNSIP6)
	}
	seen := map[string]bool{controlPlaneIP6: true}
	for i := 1; i <= MaxNodes; i++ {
		if ip := netip.MustParseAddr(nodeIP6(i)); !links.Contains(ip) || seen[ip.String()] {
			t.Errorf("node %d has %s: outside %s, or taken", i, ip, links)
		}
		subnet := netip.MustParsePrefix(podSubnet6(i))
		if subnet != subnet.Masked() || !pods.Contains(subnet.Addr()) || subnet.Bits() < pods.Bits() || seen[subnet.String()] {
			t.Errorf("node %d has the pods %s: outside %s, or taken", i, subnet, pods)
		}
		seen[nodeIP6(i)], seen[subnet.String()] = true, true
	}
}

// arguments gives, joined, all that the programs of the cluster and of node 1 are told about addresses.
func arguments(t *testing.T, c *Cluster) string {
	t.Helper()
	var all []string
	for _, make := range []func(*Cluster, string) (command, error){apiserverCommand, kubeletCommand, ciliumCommand} {
		cmd, err := make(c, nodeName(1))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd.Args...)
	}
	for _, config := range []func(int) ([]byte, error){c.kubeletConfig, c.proxyConfig,
		func(i int) ([]byte, error) { return json.Marshal(c.nodeSpec(i)) },
		func(int) ([]byte, error) { return json.Marshal(c.dnsService(object{})) }} {
		text, err := config(1)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	all = append(all, c.bridgeCommands()...)
	all = append(all, c.uplinkCommands(1)...)
	return strings.Join(append(all, c.state.forwardingSysctls()...), "\n") + "\n"
}

func TestSingleStackKnowsNothingOfIPv6(t *testing.T) {
	text := arguments(t, testCluster(DefaultOptions()))
	for _, never := range []string{"fd00:", "IPv6", "ipv6/", "eth0 address", "ipFamil", "--ipv6", "clusterIPs"} {
		if strings.Contains(text, never) {
			t.Errorf("a single-stack cluster is told %q:\n%s", never, text)
		}
	}
	for _, want := range []string{"--service-cluster-ip-range=10.96.0.0/16\n", "--node-ip=10.99.0.11\n", "--enable-ipv6=false\n",
		`"clusterCIDR": "10.244.0.0/16"`, `"podCIDRs":["10.244.1.0/24"]`, `"clusterIP":"10.96.0.10"`} {
		if !strings.Contains(text, want) {
			t.Errorf("a single-stack cluster is not told %q:\n%s", want, text)
		}
	}
	raw, err := json.Marshal(state{Options: DefaultOptions()})
	if err != nil || strings.Contains(string(raw), "dualStack") {
		t.Errorf("the state of a single-stack cluster is %s, %v", raw, err)
	}
}

func TestDualStackTellsEveryProgramBothFamilies(t *testing.T) {
	text := arguments(t, dualStackCluster())
	for _, want := range []string{
		"--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112\n",
		"--node-ip=10.99.0.11,fd00:10:99::11\n",
		"--enable-ipv6=true\n", "--ipv6-native-routing-cidr=fd00:10:244::/48\n", "--enable-ipv6-masquerade=false\n",
		`"clusterCIDR": "10.244.0.0/16,fd00:10:244::/48"`,
		`"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00:10:244:1::/64"]`,
		`"clusterIP":"10.96.0.10","clusterIPs":["10.96.0.10","fd00:10:96::a"],"ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"RequireDualStack"`,
		"\nroute add fd00:10:244:2::/64 via fd00:10:99::12\n",
		"\nroute add default via fd00:10:99::1\n",
		"\nlink set eth0 address 02:00:0a:63:00:11\nlink set lo up\n",
		"/proc/sys/net/ipv4/ip_forward\n/proc/sys/net/ipv6/conf/all/forwarding\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("a dual-stack cluster is not told %q:\n%s", want, text)
		}
	}
}

// A command that starts with a dash may fail unnoticed, as one with ip's own option -6 would.
func TestAddressesMustBeSet(t *testing.T) {
	c := dualStackCluster()
	for _, command := range append(c.bridgeCommands(), c.uplinkCommands(2)...) {
		if strings.HasPrefix(command, "-") {
			t.Errorf("%q is allowed to fail", command)
		}
	}
}

func TestDualStackIsKeptAndNotChanged(t *testing.T) {
	raw, err := json.Marshal(dualStackCluster().state)
	if err != nil {
		t.Fatal(err)
	}
	var read state
	if err := json.Unmarshal(raw, &read); err != nil || !read.DualStack {
		t.Errorf("read back from %s: %+v, %v", raw, read.Options, err)
	}
	for _, test := range []struct {
		has, want bool
		message   string
	}{
		{true, false, "cluster weightlock runs with --dual-stack=true, not false: run `down --name weightlock` first"},
		{false, true, "cluster weightlock runs with --dual-stack=false, not true: run `down --name weightlock` first"},
		{true, true, ""},
	} {
		c, o := testCluster(DefaultOptions()), DefaultOptions()
		c.state.DualStack, o.DualStack = test.has, test.want
		err := c.sameOptions(o, map[string]bool{"dual-stack": true})
		if (err == nil) != (test.message == "") || (err != nil && !strings.Contains(err.Error(), test.message)) {
			t.Errorf("%+v: %v", test, err)
		}
		if err := c.sameOptions(o, nil); err != nil {
			t.Errorf("a flag that nobody gave is compared: %v", err)
		}
	}
	if dual := dualStackCluster(); dual.Serves(DefaultOptions()) || !dual.Serves(dual.state.Options) {
		t.Error("a dual-stack cluster serves a run that is about a single-stack one, or not one that is about itself")
	}
	if got := dualStackCluster().state.perFamily("a", "b"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v: IPv4 is not first", got)
	}
}
