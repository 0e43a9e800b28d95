package selftest

import (
	"fmt"
	"time"
)

func (t *test) components() error {
	for _, name := range []string{"etcd", "apiserver", "controller-manager", "scheduler", "containerd", "kubelet", "kube-proxy", "cilium", "fakegpu"} {
		if err := t.cluster.KillComponent(name, 0); err != nil {
			return err
		}
		if err := t.cluster.StartComponent(t.ctx, name, 0); err != nil {
			return err
		}
	}
	// Containers belong to their shims, which live on when containerd dies.
	restarts, err := t.kubectl("", "get", "pod", "server", "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
	if err := wants(restarts, err, "0"); err != nil {
		return fmt.Errorf("restarts of a container: %w", err)
	}
	return t.eventually(60*time.Second, t.reach)
}

// gpuAfterKubelet runs after the kubelets and the device plugins were killed: a new pod must get its GPU.
func (t *test) gpuAfterKubelet() error {
	if err := t.cluster.KillComponent("kubelet", 0); err != nil {
		return err
	}
	if err := t.cluster.StartComponent(t.ctx, "kubelet", 0); err != nil {
		return err
	}
	if _, err := t.kubectl("", "delete", "pod", "gpu", "--force", "--grace-period=0"); err != nil {
		return err
	}
	return t.eventually(60*time.Second, func() error {
		if _, err := t.kubectl(objects, "apply", "-f", "-"); err != nil {
			return err
		}
		if _, err := t.kubectl("", "wait", "pod", "gpu", "--for=condition=Ready", "--timeout=10s"); err != nil {
			return err
		}
		return t.gpu()
	})
}

// nodeReady compares the Ready condition of a node: True, False or Unknown.
func (t *test) nodeReady(node, want string) func() error {
	return func() error {
		got, err := t.kubectl("", "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		return wants(got, err, want)
	}
}

func (t *test) stopNode() error {
	if err := t.cluster.StopNode(1); err != nil {
		return err
	}
	if err := t.eventually(60*time.Second, t.nodeReady("node1", "Unknown")); err != nil {
		return err
	}
	if err := t.cluster.StartNode(t.ctx, 1); err != nil {
		return err
	}
	return t.eventually(90*time.Second, t.reach)
}

func (t *test) partition() error {
	if err := t.cluster.PartitionNode(t.ctx, 2); err != nil {
		return err
	}
	if err := t.eventually(60*time.Second, t.nodeReady("node2", "Unknown")); err != nil {
		return err
	}
	if err := t.cluster.HealNode(t.ctx, 2); err != nil {
		return err
	}
	return t.eventually(60*time.Second, t.reach)
}

func (t *test) repair() error {
	for _, name := range []string{"apiserver", "cilium"} {
		if err := t.cluster.KillComponent(name, 0); err != nil {
			return err
		}
	}
	if err := t.cluster.StopNode(1); err != nil {
		return err
	}
	if err := t.up(); err != nil {
		return err
	}
	if err := t.nodeReady("node1", "True")(); err != nil {
		return err
	}
	return t.eventually(90*time.Second, t.reach)
}
