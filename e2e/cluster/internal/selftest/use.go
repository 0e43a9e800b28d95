package selftest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func (t *test) startPods() error {
	for _, node := range []int{1, 2} {
		dir := filepath.Join(t.cluster.Weights(node), "selftest")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "name"), fmt.Appendf(nil, "node%d", node), 0o644); err != nil {
			return err
		}
	}
	if _, err := t.kubectl(objects, "apply", "-f", "-"); err != nil {
		return err
	}
	_, err := t.kubectl("", "wait", "pod", "--all", "--for=condition=Ready", "--timeout=55s")
	return err
}

var gpuIDs = regexp.MustCompile(`^GPU-[^,]+,GPU-[^,]+$`)

func (t *test) gpu() error {
	got, err := t.exec("gpu", "echo $NVIDIA_VISIBLE_DEVICES")
	if err != nil {
		return err
	}
	if !gpuIDs.MatchString(got) {
		return fmt.Errorf("NVIDIA_VISIBLE_DEVICES is %q, want the ids of two GPUs", got)
	}
	mig, err := t.kubectl("", "exec", "gpu", "-c", "mig", "--", "/bin/sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES")
	if err == nil && (mig == "" || strings.Contains(mig, ",")) {
		err = fmt.Errorf("NVIDIA_VISIBLE_DEVICES of the MIG container is %q, want one id", mig)
	}
	return err
}

func (t *test) dns() error {
	got, err := t.exec("client", "nslookup -type=a kubernetes.default.svc.cluster.local")
	if err == nil && !strings.Contains(got, "10.96.0.1") {
		err = fmt.Errorf("the name of the API's Service resolves to %q", got)
	}
	return errors.Join(err, t.reach())
}

func (t *test) kubeletAPI() error {
	if out, err := t.kubectl("", "logs", "server"); err != nil || !strings.Contains(out, "8080") {
		return fmt.Errorf("logs of the server: %q, %w", out, err)
	}
	ctx, cancel := context.WithTimeout(t.ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(t.set.Bin, "kubectl"), "port-forward", "pod/server", ":8080")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+t.cluster.Kubeconfig())
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
	if err != nil || address == "" {
		return fmt.Errorf("port-forward says %q: %w", line, err)
	}
	resp, err := http.Get("http://" + address + "/echo?msg=forwarded")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return wants(string(body), err, "forwarded")
}

func (t *test) volumes() error {
	got, err := t.exec("volumes", "cat /hostpath/name /local/name")
	if err := wants(got, err, "node2node2"); err != nil {
		return err
	}
	_, err = t.exec("volumes", "touch /hostpath/new")
	return contains(err, "Read-only file system")
}

// seccomp reads in which mode the kernel filters the calls of a container with the profile RuntimeDefault and of one
// without any.
func (t *test) seccomp() error {
	const mode = "grep -w Seccomp /proc/1/status | tr -d '\\t'"
	with, err := t.exec("client", mode)
	if err := wants(with, err, "Seccomp:2"); err != nil {
		return err
	}
	without, err := t.exec("server", mode)
	return wants(without, err, "Seccomp:0")
}

const podThatRequiresAPlugin = `
apiVersion: v1
kind: Pod
metadata:
  name: guarded
  annotations: {required-plugins.noderesource.dev/pod: "[absent]"}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: "registry.invalid/e2e/agnhost:2.63.0", imagePullPolicy: Never, args: [pause]}]
`

// requiredPlugin checks that containerd refuses the containers of a pod that requires an NRI plugin nobody runs.
func (t *test) requiredPlugin() error {
	if _, err := t.kubectl(podThatRequiresAPlugin, "apply", "-f", "-"); err != nil {
		return err
	}
	err := t.eventually(30*time.Second, func() error {
		got, err := t.kubectl("", "get", "pod", "guarded", "-o", "jsonpath={.status.containerStatuses[0].state.waiting.message}")
		if err == nil && !strings.Contains(got, `required plugin "absent" not present`) {
			err = fmt.Errorf("the container waits because of %q", got)
		}
		return err
	})
	_, deleteErr := t.kubectl("", "delete", "pod", "guarded", "--force", "--grace-period=0")
	return errors.Join(err, deleteErr)
}

const webhookConfiguration = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: selftest}
webhooks:
- name: selftest.weightlock.dev
  clientConfig: {service: {name: %s, namespace: default, port: 80}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  failurePolicy: Fail
  sideEffects: None
  admissionReviewVersions: [v1]
  timeoutSeconds: 5
`

const serviceOfIPv6 = `
apiVersion: v1
kind: Service
metadata: {name: server6}
spec: {ipFamilyPolicy: SingleStack, ipFamilies: [IPv6], selector: {app: server}, ports: [{port: 80, targetPort: 8080}]}
`

// webhook lets the API server call the server by its Service and, in a dual-stack cluster, by one that has only an
// IPv6 address.
func (t *test) webhook() error {
	if err := t.callsWebhook("server"); err != nil || !t.DualStack {
		return err
	}
	if _, err := t.kubectl(serviceOfIPv6, "apply", "-f", "-"); err != nil {
		return err
	}
	if err := t.callsWebhook("server6"); err != nil {
		return fmt.Errorf("over IPv6: %w", err)
	}
	return nil
}

// callsWebhook names a server that speaks plain HTTP as a webhook: that the API server complains of just that shows
// that it reached it.
func (t *test) callsWebhook(service string) error {
	if _, err := t.kubectl(fmt.Sprintf(webhookConfiguration, service), "apply", "-f", "-"); err != nil {
		return err
	}
	err := t.eventually(20*time.Second, func() error {
		_, err := t.kubectl("", "create", "configmap", "refused", "--dry-run=server")
		return contains(err, "server gave HTTP response to HTTPS client")
	})
	_, deleteErr := t.kubectl("", "delete", "validatingwebhookconfiguration", "selftest")
	return errors.Join(err, deleteErr)
}

const denyAll = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress]}
`

const adminDeny = `
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: deny}
spec:
  tier: Admin
  priority: 10
  subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: server}}}}
  ingress: [{name: all, action: Deny, from: [{namespaces: {}}]}]
`

func (t *test) networkPolicy() error { return t.cuts("networkpolicy", denyAll) }

func (t *test) clusterNetworkPolicy() error { return t.cuts("clusternetworkpolicy", adminDeny) }

// cuts checks that the server is reached before the policy and after it, and not with it.
func (t *test) cuts(kind, policy string) error {
	if err := t.reach(); err != nil {
		return fmt.Errorf("before the policy: %w", err)
	}
	if _, err := t.kubectl(policy, "apply", "-f", "-"); err != nil {
		return err
	}
	err := t.eventually(20*time.Second, t.cut)
	if _, deleteErr := t.kubectl("", "delete", kind, "deny"); deleteErr != nil {
		return errors.Join(err, deleteErr)
	}
	if err != nil {
		return fmt.Errorf("with the policy: %w", err)
	}
	if err := t.eventually(20*time.Second, t.reach); err != nil {
		return fmt.Errorf("without the policy: %w", err)
	}
	return nil
}
