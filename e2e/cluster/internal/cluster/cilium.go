package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// ciliumCommand is the Cilium agent of a node. The flags that are not plain choices of this network:
//   - policy-cidr-match-mode: else an ipBlock never matches pods or nodes.
//   - identity-max-jitter, identity-change-grace-period: else a relabelled pod keeps its old policy for up to 20 s.
//   - enable-endpoint-routes: else traffic within a node skips the host's netfilter.
func ciliumCommand(c *Cluster, member string) (command, error) {
	cmd := c.nodeProgram("cilium-agent",
		"--k8s-kubeconfig-path="+c.path(member, "etc", "cilium.kubeconfig"),
		"--identity-allocation-mode=crd", "--ipam=kubernetes", fmt.Sprintf("--enable-ipv6=%t", c.state.DualStack),
		"--routing-mode=native", "--auto-direct-node-routes=true", "--ipv4-native-routing-cidr="+podNetwork,
		"--enable-ipv4-masquerade=false", "--kube-proxy-replacement=false", "--enable-l7-proxy=false",
		"--enable-hubble=false", "--enable-health-checking=false", "--enable-endpoint-health-checking=false",
		"--enable-bandwidth-manager=false", "--devices=eth0", "--direct-routing-device=eth0",
		"--cgroup-root=/run/cilium/cgroupv2", "--enable-gops=false",
		"--policy-cidr-match-mode=pods,nodes",
		"--identity-max-jitter=0s", "--identity-change-grace-period=0s",
		"--enable-endpoint-routes=true",
		"--enable-k8s-cluster-network-policy=true",
		"--enable-policy="+c.state.PolicyEnforcement,
		"--write-cni-conf-when-ready=/run/cni/net.d/05-cilium.conflist", "--cni-exclusive=false")
	if c.state.DualStack {
		cmd.Args = append(cmd.Args, "--ipv6-native-routing-cidr="+podNetwork6, "--enable-ipv6-masquerade=false")
	}
	cmd.Env = append(cmd.Env, "K8S_NODE_NAME="+member)
	return cmd, nil
}

// applyNetworkCRDs installs the custom resources of Cilium and of the policy API that the agents read.
func (c *Cluster) applyNetworkCRDs(ctx context.Context) error {
	api, err := c.api()
	if err != nil {
		return err
	}
	var work []func() error
	for _, dir := range []string{c.set.CiliumCRDs, c.set.PolicyAPICRDs} {
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("%s holds no custom resources: remove %s and run `build`", dir, c.set.Root)
		}
		for _, file := range files {
			work = append(work, func() error { return applyCRDFile(ctx, api, file) })
		}
	}
	return parallel(work...)
}

var documentBreak = regexp.MustCompile(`(?m)^---[ \t]*$`)
var crdKind = regexp.MustCompile(`(?m)^kind: CustomResourceDefinition\s*$`)
var crdName = regexp.MustCompile(`(?m)^  name: ["']?([a-z0-9.-]+)["']?\s*$`)

// applyCRDFile applies each CustomResourceDefinition in a file of YAML.
func applyCRDFile(ctx context.Context, api *apiClient, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, doc := range documentBreak.Split(string(raw), -1) {
		if !crdKind.MatchString(doc) {
			continue
		}
		name := crdName.FindStringSubmatch(doc)
		if name == nil {
			return fmt.Errorf("%s: found no metadata.name", file)
		}
		if err := api.apply(ctx, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"+name[1], []byte(doc)); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	return nil
}
