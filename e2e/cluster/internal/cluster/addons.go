package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"weightlock.dev/e2e/cluster/internal/artifacts"
)

// object is a Kubernetes object as plain data.
type object = map[string]any

// addon is an object and the path of the API under which it lies.
type addon struct {
	path string
	body object
}

// corefile answers for the cluster's own names and for nothing else: this cluster has no way out. The answers are
// cached for one second only, so that tests see a change at once.
const corefile = `.:53 {
    errors
    health {
        lameduck 1s
    }
    ready
    kubernetes ` + clusterDomain + ` in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 1
    }
    cache 1
    loadbalance
}
`

// dnsService is the specification of the Service kube-dns, at the addresses that the cluster's DNS is known by.
func (c *Cluster) dnsService(selector object) object {
	spec := object{"selector": selector, "clusterIP": serviceDNSIP, "ports": []object{
		{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}}}
	if c.state.DualStack {
		spec["ipFamilyPolicy"], spec["ipFamilies"] = "RequireDualStack", []string{"IPv4", "IPv6"}
		spec["clusterIPs"] = []string{serviceDNSIP, serviceDNSIP6}
	}
	return spec
}

// dnsAddons are CoreDNS as other clusters have it: a Deployment behind the Service kube-dns in kube-system.
func (c *Cluster) dnsAddons(replicas int) []addon {
	const name, namespace, role = "coredns", "kube-system", "system:coredns"
	labels := object{"k8s-app": "kube-dns"}
	meta := func(name string) object {
		return object{"name": name, "namespace": namespace, "labels": object{"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}}
	}
	list := []string{"list", "watch"}
	probe := func(path string, port int) object {
		return object{"httpGet": object{"path": path, "port": port}, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 5}
	}
	pod := object{
		"serviceAccountName": name,
		"priorityClassName":  "system-cluster-critical",
		"dnsPolicy":          "Default",
		"tolerations":        []object{{"key": "CriticalAddonsOnly", "operator": "Exists"}},
		"topologySpreadConstraints": []object{{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
			"whenUnsatisfiable": "DoNotSchedule", "labelSelector": object{"matchLabels": labels}}},
		"volumes": []object{{"name": "config", "configMap": object{"name": name, "items": []object{{"key": "Corefile", "path": "Corefile"}}}}},
		"containers": []object{{
			"name": name, "image": artifacts.CoreDNSImage, "imagePullPolicy": "Never",
			"args":         []string{"-conf", "/etc/coredns/Corefile"},
			"volumeMounts": []object{{"name": "config", "mountPath": "/etc/coredns", "readOnly": true}},
			"ports": []object{{"name": "dns", "containerPort": 53, "protocol": "UDP"},
				{"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"}},
			"resources":      object{"requests": object{"cpu": "20m", "memory": "30Mi"}, "limits": object{"memory": "170Mi"}},
			"livenessProbe":  probe("/health", 8080),
			"readinessProbe": probe("/ready", 8181),
			"securityContext": object{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
				"capabilities": object{"add": []string{"NET_BIND_SERVICE"}, "drop": []string{"ALL"}}},
		}},
	}
	core, rbac := "/api/v1/namespaces/"+namespace, "/apis/rbac.authorization.k8s.io/v1"
	return []addon{
		{core + "/serviceaccounts/" + name, object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(name)}},
		{rbac + "/clusterroles/" + role, object{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
			"metadata": object{"name": role}, "rules": []object{
				{"apiGroups": []string{""}, "resources": []string{"endpoints", "services", "pods", "namespaces"}, "verbs": list},
				{"apiGroups": []string{"discovery.k8s.io"}, "resources": []string{"endpointslices"}, "verbs": list}}}},
		{rbac + "/clusterrolebindings/" + role, object{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
			"metadata": object{"name": role},
			"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
			"subjects": []object{{"kind": "ServiceAccount", "name": name, "namespace": namespace}}}},
		{core + "/configmaps/" + name, object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(name), "data": object{"Corefile": corefile}}},
		{core + "/services/kube-dns", object{"apiVersion": "v1", "kind": "Service", "metadata": meta("kube-dns"), "spec": c.dnsService(labels)}},
		{"/apis/apps/v1/namespaces/" + namespace + "/deployments/" + name, object{"apiVersion": "apps/v1", "kind": "Deployment",
			"metadata": meta(name), "spec": object{
				"replicas": replicas, "selector": object{"matchLabels": labels},
				"strategy": object{"rollingUpdate": object{"maxUnavailable": 1}},
				"template": object{"metadata": object{"labels": labels}, "spec": pod}}}},
	}
}

// applyDNS installs CoreDNS: two replicas where there are nodes for them.
func (c *Cluster) applyDNS(ctx context.Context) error {
	api, err := c.api()
	if err != nil {
		return err
	}
	for _, a := range c.dnsAddons(min(2, len(c.nodes()))) {
		text, err := json.Marshal(a.body)
		if err != nil {
			return err
		}
		if err := api.apply(ctx, a.path, text); err != nil {
			return fmt.Errorf("%s: %w", a.path, err)
		}
	}
	return nil
}

// dnsReady checks that at least one CoreDNS replica serves.
func (c *Cluster) dnsReady(ctx context.Context) error {
	api, err := c.api()
	if err != nil {
		return err
	}
	var deployment struct {
		Status struct{ AvailableReplicas int }
	}
	if err := api.get(ctx, "/apis/apps/v1/namespaces/kube-system/deployments/coredns", &deployment); err != nil {
		return err
	}
	if deployment.Status.AvailableReplicas == 0 {
		return fmt.Errorf("no CoreDNS replica is available: see `kubectl -n kube-system describe pods -l k8s-app=kube-dns`")
	}
	return nil
}

// nodeSpec is what the cluster decides about node i: the subnets of its pods.
func (c *Cluster) nodeSpec(i int) object {
	return object{"podCIDR": podSubnet(i), "podCIDRs": c.state.perFamily(podSubnet(i), podSubnet6(i))}
}

// registerNode makes the Node object with the subnet of its pods, which Cilium allocates from; the kubelet then finds
// it. If the kubelet was first, its object gets the subnet.
func (c *Cluster) registerNode(ctx context.Context, i int) error {
	api, err := c.api()
	if err != nil {
		return err
	}
	name := nodeName(i)
	spec := c.nodeSpec(i)
	node, err := json.Marshal(object{"apiVersion": "v1", "kind": "Node", "spec": spec, "metadata": object{"name": name,
		"labels": object{"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}}})
	if err != nil {
		return err
	}
	err = api.do(ctx, http.MethodPost, "/api/v1/nodes", "application/json", node, nil)
	if !isConflict(err) {
		return err
	}
	patch, err := json.Marshal(object{"spec": spec})
	if err != nil {
		return err
	}
	return api.do(ctx, http.MethodPatch, "/api/v1/nodes/"+name, mergePatch, patch, nil)
}

// nodesReady checks that all nodes that were not stopped are Ready and offer their pretended GPUs.
func (c *Cluster) nodesReady(ctx context.Context) error {
	api, err := c.api()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	known, err := api.nodes(ctx)
	if err != nil {
		return err
	}
	for _, i := range c.nodes() {
		n, ok := known[nodeName(i)]
		m := c.member(nodeName(i))
		if m.Stopped {
			continue
		}
		if !ok {
			return fmt.Errorf("%s has not registered", nodeName(i))
		}
		if ready, why := n.ready(m.Booted); !ready {
			return fmt.Errorf("%s is not Ready: %s", nodeName(i), why)
		}
		for _, resource := range []string{gpuResource, migResource} {
			if v := n.Status.Allocatable[resource]; v == "" || v == "0" {
				return fmt.Errorf("%s offers no %s yet: see `logs fakegpu --node %d`", nodeName(i), resource, i)
			}
		}
	}
	return nil
}

// serviceAccountsReady checks that namespaces get their default service account: without it no pod can be made.
func (c *Cluster) serviceAccountsReady(ctx context.Context) error {
	api, err := c.api()
	if err != nil {
		return err
	}
	return api.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", nil)
}
