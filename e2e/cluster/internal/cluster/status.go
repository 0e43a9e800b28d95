package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Status writes how the cluster is. Its error says that something of it is not well.
func (c *Cluster) Status(ctx context.Context, w io.Writer) error {
	if err := c.Running(); err != nil {
		return err
	}
	o := c.state.Options
	fmt.Fprintf(w, "cluster     %s\nAPI         %s\nkubeconfig  %s\nstate       %s\n", c.name, loopbackServer(o.APIPort), c.Kubeconfig(), c.dir)
	if o.DualStack {
		fmt.Fprintf(w, "families    IPv4 and IPv6 (dual-stack)\n")
	}
	if o.PolicyEnforcement != "default" {
		fmt.Fprintf(w, "policies    enforcement: %s\n", o.PolicyEnforcement)
	}
	if o.WebhookPort != 0 {
		fmt.Fprintf(w, "webhooks    127.0.0.1:%d of the control plane leads to the same port of this host\n", o.WebhookPort)
	}
	if o.AuditLog {
		fmt.Fprintf(w, "audit log   %s\n", c.auditLog())
	}
	well, apiErr := true, error(nil)
	api, err := c.api()
	if err != nil {
		return err
	}
	if apiErr = api.ready(ctx); apiErr != nil {
		fmt.Fprintf(w, "API server  not ready: %v\n", apiErr)
		well = false
	}
	if apiErr == nil && !o.ControlPlaneOnly {
		if !c.nodeTable(ctx, w, api) {
			well = false
		}
	}
	if !c.componentTable(ctx, w) {
		well = false
	}
	if !well {
		return fmt.Errorf("cluster %s is not well: `logs COMPONENT [--node N]` shows why, `up` starts again what has ended", c.name)
	}
	return nil
}

func (c *Cluster) nodeTable(ctx context.Context, w io.Writer, api *apiClient) (well bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	known, err := api.nodes(ctx)
	if err != nil {
		fmt.Fprintf(w, "nodes       %v\n", err)
		return false
	}
	well = true
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nNODE\tREADY\tADDRESS\tPODS\tGPU\tMIG\tKUBELET\tRUNTIME\t/mnt/weights ON THIS HOST")
	for _, i := range c.nodes() {
		name := nodeName(i)
		n, m := known[name], c.member(name)
		isReady, _ := n.ready(m.Booted)
		ready := map[bool]string{true: "yes", false: "no"}[isReady]
		switch {
		case m.Stopped:
			ready = "stopped"
		case m.Partitioned:
			ready += ", cut off"
		case !isReady:
			well = false
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, ready,
			strings.Join(c.state.perFamily(nodeIP(i), nodeIP6(i)), ","), strings.Join(n.Spec.PodCIDRs, ","),
			n.Status.Allocatable[gpuResource], n.Status.Allocatable[migResource],
			n.Status.NodeInfo.KubeletVersion, n.Status.NodeInfo.ContainerRuntimeVersion, c.Weights(i))
	}
	t.Flush()
	return well
}

func (c *Cluster) componentTable(ctx context.Context, w io.Writer) (well bool) {
	well = true
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nMEMBER\tCOMPONENT\tPID\tMEMORY\tHEALTH\tLOG")
	for _, member := range c.memberNames() {
		m := c.member(member)
		for _, comp := range c.components(member) {
			p := m.Processes[comp.name]
			pid, memory, health := "-", "-", "ended"
			switch {
			case m.Stopped:
				health = "stopped"
			case p.alive():
				pid, memory, health = fmt.Sprint(p.Pid), fmt.Sprintf("%d MiB", p.residentBytes()>>20), "ok"
				if err := c.healthy(member, comp)(ctx); err != nil {
					health, well = err.Error(), false
				}
			default:
				well = false
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", member, comp.name, pid, memory, health, c.logFile(member, comp.name))
		}
	}
	t.Flush()
	return well
}

// List gives the names of all clusters on this machine.
func List() ([]string, error) {
	root, err := StateRoot()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(root, "*", "state.json"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	slices.Sort(names)
	return names, nil
}

// CheckWeights gives the host's path of node i's /mnt/weights.
func (c *Cluster) CheckWeights(i int) (string, error) {
	if err := c.checkNode(i); err != nil {
		return "", err
	}
	dir := c.Weights(i)
	_, err := os.Stat(dir)
	return dir, err
}

// APIPort is the loopback port of the API server, 0 before it was chosen.
func (c *Cluster) APIPort() int { return c.state.APIPort }

// Serves tells whether the cluster has nodes, with the families of the options, and treats network policies as they say.
func (c *Cluster) Serves(o Options) bool {
	return !c.state.ControlPlaneOnly && c.state.PolicyEnforcement == o.PolicyEnforcement && c.state.DualStack == o.DualStack
}

// Describe writes, line by line, what a person needs to know of a cluster that came up.
func (c *Cluster) Describe(printf func(format string, args ...any)) {
	printf("cluster %s is up: API %s, kubeconfig %s", c.name, loopbackServer(c.state.APIPort), c.Kubeconfig())
	for _, i := range c.nodes() {
		printf("%s: /mnt/weights is %s", nodeName(i), c.Weights(i))
	}
}
