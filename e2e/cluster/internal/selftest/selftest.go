// Package selftest proves that the local cluster is what it says: it makes one of its own, uses it, breaks it, mends
// it, removes it, and compares the host with what it was before.
package selftest

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"weightlock.dev/e2e/cluster/internal/artifacts"
	"weightlock.dev/e2e/cluster/internal/cluster"
	"weightlock.dev/e2e/cluster/internal/progress"
)

// Name is the name of the cluster that the test makes. It is not the one that people work with.
const Name = "selftest"

//go:embed objects.yaml
var objects string

// Options are what a person chooses about a run.
type Options struct {
	// Keep leaves the cluster of a failed run for a look.
	Keep bool
	// DualStack makes the cluster dual-stack, and every check that connects does so over both families.
	DualStack bool
}

// test is one run.
type test struct {
	Options
	ctx     context.Context
	set     *artifacts.Set
	log     *progress.Log
	cluster *cluster.Cluster
}

// Run makes the cluster, runs every check, and removes the cluster. The checks build on each other: the first that
// fails ends the run.
func Run(ctx context.Context, set *artifacts.Set, log *progress.Log, o Options) error {
	t := &test{Options: o, ctx: ctx, set: set, log: log}
	var err error
	if t.cluster, err = cluster.Open(Name, set, log); err != nil {
		return err
	}
	if err := t.cluster.Down(ctx); err != nil {
		return err
	}
	before, err := readHost()
	if err != nil {
		return err
	}
	err = t.checks()
	if err != nil && o.Keep {
		return fmt.Errorf("%w\nthe cluster %s was kept: look at it, then `down --name %s`", err, Name, Name)
	}
	// The removal is part of the test, and must happen after an interrupt, too.
	if downErr := t.cluster.Down(context.WithoutCancel(ctx)); downErr != nil {
		return errors.Join(err, downErr)
	}
	if err != nil {
		return err
	}
	diff, err := settled(before)
	if err == nil && len(diff) > 0 {
		err = fmt.Errorf("the host is not as it was before the cluster (if another program did it, run again):\n%s", strings.Join(diff, "\n"))
	}
	if err == nil {
		log.Printf("the host is as it was: mounts, namespaces, interfaces, cgroups, ports, sysctls, state")
	}
	return err
}

func (t *test) checks() error {
	for _, check := range []struct {
		name string
		run  func() error
	}{
		{"up", t.up},
		{"a second up finds it running within 2 s", t.upAgain},
		{"pods start", t.startPods},
		{"a GPU pod is allocated its devices", t.gpu},
		{"cluster DNS and a Service from a pod", t.dns},
		{"pods, nodes and Services have addresses of the cluster's families", t.families},
		{"exec, logs and port-forward through the API server", t.kubeletAPI},
		{"hostPath and local volumes are the node's own", t.volumes},
		{"the profile RuntimeDefault filters system calls", t.seccomp},
		{"a pod that requires an absent NRI plugin does not start", t.requiredPlugin},
		{"the API server calls a webhook by its Service", t.webhook},
		{"a default-deny NetworkPolicy cuts, its removal reconnects", t.networkPolicy},
		{"a ClusterNetworkPolicy of tier Admin cuts, its removal reconnects", t.clusterNetworkPolicy},
		{"every component can be killed and started", t.components},
		{"the kubelet's restart brings the GPUs back", t.gpuAfterKubelet},
		{"a stopped node is noticed and comes back", t.stopNode},
		{"a partitioned node is noticed and heals", t.partition},
		{"up repairs what was killed", t.repair},
	} {
		step := t.log.Step(check.name, 0)
		err := check.run()
		step.Done(err)
		if err != nil {
			return fmt.Errorf("%s: %w", check.name, err)
		}
	}
	return nil
}

// kubectl runs kubectl with a time limit and gives its output, which on failure is in the error.
func (t *test) kubectl(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.ctx, 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(t.set.Bin, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+t.cluster.Kubeconfig())
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()+out.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// eventually repeats a check until it succeeds.
func (t *test) eventually(limit time.Duration, check func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", limit, err)
		}
		select {
		case <-t.ctx.Done():
			return t.ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// exec runs a shell command in a pod.
func (t *test) exec(pod, script string) (string, error) {
	return t.kubectl("", "exec", pod, "--", "/bin/busybox", "timeout", "20", "/bin/sh", "-c", script)
}

// wants compares what a command printed.
func wants(got string, err error, want string) error {
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// contains looks for a text in an error: the thing was refused, and for the right reason.
func contains(err error, want string) error {
	if err == nil {
		return fmt.Errorf("succeeded, and should have failed with %q", want)
	}
	if !strings.Contains(err.Error(), want) {
		return fmt.Errorf("failed otherwise than with %q: %w", want, err)
	}
	return nil
}

func (t *test) options() cluster.Options {
	o := cluster.DefaultOptions()
	o.Name, o.DualStack = Name, t.DualStack
	return o
}

func (t *test) up() error { return t.cluster.Up(t.ctx, t.options(), nil) }

func (t *test) upAgain() error {
	begin := time.Now()
	if err := t.up(); err != nil {
		return err
	}
	if took := time.Since(begin); took > 2*time.Second {
		return fmt.Errorf("it took %s", took)
	}
	return nil
}
