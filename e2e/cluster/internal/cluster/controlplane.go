package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ip runs a batch of ip(8) commands in the holder's network namespace; a leading "-" on a command ignores its failure.
func (c *Cluster) ip(ctx context.Context, holder process, commands ...string) error {
	for _, batch := range commands {
		text, optional := strings.CutPrefix(batch, "-")
		_, err := runInside(ctx, holder, command{Path: ipProgram, Args: strings.Fields(text), Namespaces: networkOnly})
		if err != nil && !optional {
			return err
		}
	}
	return nil
}

// startControlPlaneMember makes the control plane's namespaces with the bridge that all nodes are plugged into.
func (c *Cluster) startControlPlaneMember(ctx context.Context) error {
	holder, err := c.startMember(controlPlane)
	if err != nil {
		return err
	}
	if err := c.ip(ctx, holder, c.bridgeCommands()...); err != nil {
		return err
	}
	return settle(ctx, holder, controlPlane)
}

func etcdCommand(c *Cluster, _ string) (command, error) {
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", etcdPort), fmt.Sprintf("http://127.0.0.1:%d", etcdPeerPort)
	return c.controlPlaneProgram("etcd",
		"--name="+c.name, "--data-dir="+c.path(controlPlane, "etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster="+c.name+"="+peer,
		// The data need not outlive a crash of the machine.
		"--unsafe-no-fsync", "--log-level=warn"), nil
}

// auditPolicy records who did what to which object, once per request and without the objects.
const auditPolicy = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]}
`

func apiserverCommand(c *Cluster, _ string) (command, error) {
	pki := func(file string) string { return c.path("pki", file) }
	cmd := c.controlPlaneProgram("kube-apiserver",
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", etcdPort),
		"--bind-address=0.0.0.0", fmt.Sprintf("--secure-port=%d", apiPort), "--advertise-address="+controlPlaneIP,
		"--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"), "--client-ca-file="+pki("ca.crt"),
		"--service-cluster-ip-range="+strings.Join(c.state.perFamily(serviceNetwork, serviceNetwork6), ","),
		"--service-account-issuer=https://kubernetes.default.svc."+clusterDomain,
		"--service-account-key-file="+pki("sa.pub"), "--service-account-signing-key-file="+pki("sa.key"),
		"--kubelet-client-certificate="+pki("kubelet-client.crt"), "--kubelet-client-key="+pki("kubelet-client.key"),
		"--kubelet-certificate-authority="+pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP,Hostname",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--requestheader-client-ca-file="+pki("ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+pki("front-proxy.crt"), "--proxy-client-key-file="+pki("front-proxy.key"),
		// No kube-proxy runs beside the API server: it must call a Service's endpoints, not the Service's address.
		"--enable-aggregator-routing=true",
		"--allow-privileged=true", "--profiling=false")
	if c.state.AuditLog {
		policy := c.path("audit-policy.json")
		if err := writeFile(policy, []byte(auditPolicy), 0o600); err != nil {
			return command{}, err
		}
		cmd.Args = append(cmd.Args, "--audit-policy-file="+policy, "--audit-log-path="+c.auditLog(),
			"--audit-log-maxsize=500")
	}
	return cmd, nil
}

// auditLog is where the API server writes its audit log, if it was asked to.
func (c *Cluster) auditLog() string { return c.path("audit.log") }

func controllerManagerCommand(c *Cluster, _ string) (command, error) {
	pki := func(file string) string { return c.path("pki", file) }
	config := c.path(controlPlane, "controller-manager.kubeconfig")
	return c.controlPlaneProgram("kube-controller-manager",
		"--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials=true",
		"--root-ca-file="+pki("ca.crt"), "--service-account-private-key-file="+pki("sa.key"),
		"--cluster-signing-cert-file="+pki("ca.crt"), "--cluster-signing-key-file="+pki("ca.key"),
		"--allocate-node-cidrs=false",
		// It makes this directory; the default is one of the host's.
		"--flex-volume-plugin-dir="+c.path(controlPlane, "volume-plugins"),
		// Binding a claim waits for this period, 15 s by default.
		"--pvclaimbinder-sync-period=1s",
		// A dead or cut-off node is noticed within 20 s instead of 50 s; its kubelet reports every 4 s.
		"--node-monitor-period=2s", "--node-monitor-grace-period=20s",
		// With the default of 20 requests a second it takes 5 s until its own controllers run.
		"--kube-api-qps=200", "--kube-api-burst=400",
		"--profiling=false"), nil
}

func schedulerCommand(c *Cluster, _ string) (command, error) {
	config := c.path(controlPlane, "scheduler.kubeconfig")
	return c.controlPlaneProgram("kube-scheduler",
		"--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false"), nil
}

// issueControlPlane writes what the control plane and the host identify themselves with.
func (c *Cluster) issueControlPlane() error {
	authority, err := openAuthority(c.path("pki"), c.name)
	if err != nil {
		return err
	}
	if err := authority.issueControlPlane(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.path(controlPlane, "tmp"), 0o755); err != nil {
		return err
	}
	for _, user := range []string{"controller-manager", "scheduler"} {
		if err := authority.kubeconfig(c.path(controlPlane, user+".kubeconfig"), c.name, insideServer(), user); err != nil {
			return err
		}
	}
	for _, i := range c.nodes() {
		if err := authority.issueNode(i); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfig writes the kubeconfig that works from the host; the loopback port must be known by now.
func (c *Cluster) writeKubeconfig() error {
	authority := &authority{dir: c.path("pki")}
	return authority.kubeconfig(c.Kubeconfig(), c.name, loopbackServer(c.state.APIPort), "admin")
}

// Kubeconfig is the path of the kubeconfig for cluster-admin on the host.
func (c *Cluster) Kubeconfig() string { return c.path("kubeconfig") }

// controlPlaneProgram and nodeProgram are the commands that run one of the built programs inside a member.
func (c *Cluster) controlPlaneProgram(name string, args ...string) command {
	return command{Path: filepath.Join(c.set.Bin, name), Args: args, Env: c.environment(c.path(controlPlane, "tmp"))}
}

func (c *Cluster) nodeProgram(name string, args ...string) command {
	return command{Path: filepath.Join(c.set.Bin, name), Args: args, Env: c.environment(nodeTemporary)}
}

// environment is that of every program inside a member. No temporary file is to stay behind on the host.
func (c *Cluster) environment(temporary string) []string {
	return []string{"PATH=" + c.set.Bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + temporary, "TMPDIR=" + temporary, "LANG=C.UTF-8"}
}
