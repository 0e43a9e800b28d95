// Package cluster runs a real Kubernetes on one Linux machine: a control plane and any number of nodes, each in
// namespaces of its own, with Cilium as the network. Nothing of it is visible in the host's namespaces but one
// loopback port for the API server.
//
// Each member (the control plane and each node) has a holder: process 1 of the member's pid namespace, which also
// keeps its network and mount namespaces. Killing a holder therefore ends a member whole.
package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// DefaultName is the name of the cluster that verbs mean when none is given.
const DefaultName = "weightlock"

// MaxNodes is how many nodes fit the addresses that the plan below gives them.
const MaxNodes = 9

// Options are what a person chooses about a cluster. They are kept in its state, so a later up repairs the same one.
type Options struct {
	Name  string `json:"name"`
	Nodes int    `json:"nodes"`
	// ControlPlaneOnly leaves out the scheduler, all nodes and all addons.
	ControlPlaneOnly bool `json:"controlPlaneOnly"`
	// PolicyEnforcement is passed to Cilium: "default" enforces policies, "never" ignores them.
	PolicyEnforcement string `json:"policyEnforcement"`
	// APIPort is the loopback port of the host on which the API server answers; 0 lets up choose a free one.
	APIPort int `json:"apiPort"`
	// WebhookPort, if not 0, is a port on 127.0.0.1 of the control plane that leads to the same port of the host,
	// so that the API server reaches webhooks that a test serves there.
	WebhookPort int `json:"webhookPort"`
	// AuditLog makes the API server write an audit log at level Metadata.
	AuditLog bool `json:"auditLog"`
	// DualStack gives nodes, pods and Services an IPv6 address beside their IPv4 one.
	DualStack bool `json:"dualStack,omitempty"`
}

// DefaultOptions are those of a bare up.
func DefaultOptions() Options {
	return Options{Name: DefaultName, Nodes: 2, PolicyEnforcement: "default"}
}

var nameForm = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$`)

// CheckName tells whether a cluster may be called so: the name becomes part of paths and cgroups.
func CheckName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("--name %q: use 1 to 20 lower-case letters, digits and dashes, starting with a letter", name)
	}
	return nil
}

// Validate refuses options that no cluster could be made from.
func (o Options) Validate() error {
	if err := CheckName(o.Name); err != nil {
		return err
	}
	if o.Nodes < 1 || o.Nodes > MaxNodes {
		return fmt.Errorf("--nodes %d: use 1 to %d, or --control-plane-only for none", o.Nodes, MaxNodes)
	}
	if o.PolicyEnforcement != "default" && o.PolicyEnforcement != "never" {
		return fmt.Errorf("--policy-enforcement %q: use default or never", o.PolicyEnforcement)
	}
	for _, p := range []struct {
		flag string
		port int
	}{{"--api-port", o.APIPort}, {"--webhook-port", o.WebhookPort}} {
		if p.port < 0 || p.port > 65535 {
			return fmt.Errorf("%s %d: use a port from 1 to 65535, or 0", p.flag, p.port)
		}
	}
	if o.WebhookPort == apiPort || o.WebhookPort == etcdPort || o.WebhookPort == etcdPeerPort {
		return fmt.Errorf("--webhook-port %d: the control plane itself listens there, use another", o.WebhookPort)
	}
	return nil
}

// StateRoot is the directory that holds one directory per cluster: $WEIGHTLOCK_E2E_STATE, else
// $XDG_STATE_HOME/weightlock-e2e, else ~/.local/state/weightlock-e2e.
func StateRoot() (string, error) {
	dir := os.Getenv("WEIGHTLOCK_E2E_STATE")
	if dir == "" {
		base := os.Getenv("XDG_STATE_HOME")
		if base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", fmt.Errorf("no place for the cluster's state (%w): set WEIGHTLOCK_E2E_STATE to a directory", err)
			}
			base = filepath.Join(home, ".local", "state")
		}
		dir = filepath.Join(base, "weightlock-e2e")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, visibleInNodes(dir, "WEIGHTLOCK_E2E_STATE")
}

// hiddenInNodes are the directories that a node covers with its own.
var hiddenInNodes = []string{"/run", "/var/run", "/var/lib", "/var/log", "/mnt", "/proc", "/sys"}

// visibleInNodes refuses a directory that the programs of a node could not read. variable is the setting that moves it.
func visibleInNodes(dir, variable string) error {
	for _, h := range hiddenInNodes {
		if dir == h || strings.HasPrefix(dir, h+"/") {
			return fmt.Errorf("%s is inside %s, which every node covers with a directory of its own: set %s to a directory elsewhere", dir, h, variable)
		}
	}
	return nil
}
