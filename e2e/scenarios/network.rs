//! What leaves and enters an environment.

use serde_json::json;

use crate::harness::*;

/// `agnhost connect` from a pod: Ok, or the way it failed.
pub async fn connect(namespace: &str, pod: &str, target: &str) -> Result<(), String> {
    let ran = kubectl(&["exec", "-n", namespace, pod, "--", "/agnhost", "connect", "--timeout=2s", target]).await;
    if ran.ok { Ok(()) } else { Err(ran.stderr) }
}

/// A pod inside an environment that tries to connect once and says in its exit how it went: nobody can exec there.
pub async fn attempt(s: &Stage, namespace: &str, name: &str, target: &str) -> String {
    let mut pod = plain_pod(namespace, name);
    pod["spec"]["containers"][0] = json!({"name": "main", "image": AGNHOST, "command": ["/bin/sh", "-c",
        format!("for i in 1 2 3 4 5; do /agnhost connect --timeout=2s {target} && exit 0; done; exit 7")]});
    s.create(pod).await.unwrap();
    eventually(&format!("{name} to end"), SOON, || async {
        let pod = s.get("v1", "Pod", Some(namespace), name).await.map_err(|e| e.to_string())?;
        match pod.data["status"]["phase"].as_str() {
            Some(end @ ("Succeeded" | "Failed")) => Ok(end.to_string()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

pub async fn address(s: &Stage, namespace: &str, pod: &str) -> String {
    text(&s.phase(namespace, pod, "Running").await.data["status"]["podIP"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_is_cut_but_for_what_is_declared() {
    scenario("network", |s| async move {
        let (ns, store, gateway) = (s.namespace("in", &[]).await, s.namespace("store", &[]).await, s.namespace("gateway", &[]).await);
        s.create(plain_pod(&store, "store")).await.unwrap();
        s.create(plain_pod(&store, "other")).await.unwrap();
        s.create(plain_pod(&gateway, "gateway")).await.unwrap();
        s.create(plain_pod(&gateway, "stranger")).await.unwrap();
        let mut env = environment(&s.id, &ns, &["*"]);
        env["spec"]["network"] = json!({
            "ingress": [{"name": "gateway", "from": {"pods": {"namespace": gateway, "labels": {"app": "gateway"}}}, "ports": [{"protocol": "TCP", "port": 8080}]}],
            "egress": [
                {"name": "store", "to": {"pods": {"namespace": store, "labels": {"app": "store"}}}, "ports": [{"protocol": "TCP", "port": 8080}]},
                {"name": "peers", "to": {"self": {}}, "ports": [{"protocol": "TCP", "port": 8080}]},
            ],
        });
        env["spec"]["network"]["ingress"].as_array_mut().unwrap()
            .push(json!({"name": "peers", "from": {"self": {}}, "ports": [{"protocol": "TCP", "port": 8080}]}));
        s.create(env).await.unwrap();
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;
        s.create(plain_pod(&ns, "inside")).await.unwrap();
        let (inside, allowed, other) = (address(&s, &ns, "inside").await, address(&s, &store, "store").await, address(&s, &store, "other").await);
        let stranger = address(&s, &gateway, "stranger").await;
        address(&s, &gateway, "gateway").await;

        // Out of the environment.
        assert_eq!(attempt(&s, &ns, "to-store", &format!("{allowed}:8080")).await, "Succeeded");
        assert_eq!(attempt(&s, &ns, "to-self", &format!("{inside}:8080")).await, "Succeeded");
        assert_eq!(attempt(&s, &ns, "to-other", &format!("{other}:8080")).await, "Failed");
        assert_eq!(attempt(&s, &ns, "to-stranger", &format!("{stranger}:8080")).await, "Failed");
        // Names are resolved, and what they lead to is not reached: the program tells the two apart.
        let mut dns = plain_pod(&ns, "dns");
        dns["spec"]["containers"][0] = json!({"name": "main", "image": AGNHOST, "command": ["/bin/sh", "-c",
            "for i in 1 2 3 4 5; do case $(/agnhost connect --timeout=2s kubernetes.default.svc.cluster.local:443 2>&1) in TIMEOUT*) exit 0;; esac; done; exit 7"]});
        s.create(dns).await.unwrap();
        s.phase(&ns, "dns", "Succeeded").await;
        assert_eq!(attempt(&s, &ns, "to-api", "10.96.0.1:443").await, "Failed");
        // Into it.
        connect(&gateway, "gateway", &format!("{inside}:8080")).await.unwrap();
        assert!(connect(&gateway, "stranger", &format!("{inside}:8080")).await.is_err());
        // The neighbour outside is free.
        connect(&gateway, "stranger", &format!("{other}:8080")).await.unwrap();
    })
    .await;
}

/// Two environments reach each other only where both say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environments_reach_each_other_where_both_declare_it() {
    scenario("env-env", |s| async move {
        let (a, b) = (s.namespace("a", &[]).await, s.namespace("b", &[]).await);
        let (env_a, env_b) = (format!("{}-a", s.id), format!("{}-b", s.id));
        let mut first = environment(&env_a, &a, &["*"]);
        first["spec"]["network"] = json!({"egress": [{"name": "b", "to": {"environment": env_b}, "ports": [{"protocol": "TCP", "port": 8080}]}]});
        s.create(first).await.unwrap();
        s.create(environment(&env_b, &b, &["*"])).await.unwrap();
        s.condition("WeightEnvironment", &env_a, "Ready", "True").await;
        s.condition("WeightEnvironment", &env_b, "Ready", "True").await;
        s.create(plain_pod(&b, "server")).await.unwrap();
        let server = address(&s, &b, "server").await;
        assert_eq!(attempt(&s, &a, "one-sided", &format!("{server}:8080")).await, "Failed");
        s.patch("weightlock.dev/v1alpha1", "WeightEnvironment", None, &env_b, json!({"spec": {"network": {"ingress":
            [{"name": "a", "from": {"environment": env_a}, "ports": [{"protocol": "TCP", "port": 8080}]}]}}}))
            .await
            .unwrap();
        s.condition("WeightEnvironment", &env_b, "Ready", "True").await;
        assert_eq!(attempt(&s, &a, "both-sides", &format!("{server}:8080")).await, "Succeeded");
    })
    .await;
}

/// The standard annotation is set, and status says that it proves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bandwidth_annotation_is_set_and_not_called_proof() {
    scenario("bandwidth", |s| async move {
        let limits = json!({"initiated": {"rate": "10M"}, "replies": {"rate": "40M"}});
        let (ns, _) = s.serving(&["vllm"], |env| env["spec"]["egressLimits"] = limits).await;
        let (reason, message) = s.condition("WeightEnvironment", &s.id, "EgressLimited", "False").await;
        assert_eq!(reason, "AnnotationIsNotProof", "{message}");
        let pod = s.create(model_server(&ns, "server", "vllm", "w")).await.unwrap();
        assert_eq!(pod.metadata.annotations.unwrap()["kubernetes.io/egress-bandwidth"], "50M");
    })
    .await;
}

/// Policies add up, so one of a tenant may allow what is declared and nothing else, of whichever kind it is. What was there
/// before is named in status.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_of_a_tenant_opens_nothing_that_is_not_declared() {
    scenario("tenant-policy", |s| async move {
        let (ns, store) = (s.namespace("in", &[]).await, s.namespace("store", &[]).await);
        for name in ["store", "other"] {
            s.create(plain_pod(&store, name)).await.unwrap();
        }
        let policy = |namespace: &str, name: &str, spec: serde_json::Value| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": name, "namespace": namespace}, "spec": spec})
        };
        let open = || json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]});
        let to = |app: &str, port: u16| {
            json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
                "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": store}},
                    "podSelector": {"matchLabels": {"app": app}}}],
                "ports": [{"port": port}]}]})
        };
        s.create(policy(&ns, "before", open())).await.unwrap();
        let mut env = environment(&s.id, &ns, &["*"]);
        env["spec"]["network"] = json!({"egress": [{"name": "store",
            "to": {"pods": {"namespace": store, "labels": {"app": "store"}}}, "ports": [{"protocol": "TCP", "port": 8080}]}]});
        s.create(env).await.unwrap();
        let (reason, message) = s.condition("WeightEnvironment", &s.id, "NetworkContained", "False").await;
        assert_eq!(reason, "UndeclaredOpening", "{message}");
        assert!(message.contains(&format!("{ns}/before: spec.egress[0]: without \"to\" it is for everyone")), "{message}");
        s.delete("networking.k8s.io/v1", "NetworkPolicy", Some(&ns), "before").await;
        s.condition("WeightEnvironment", &s.id, "NetworkContained", "True").await;
        s.condition("WeightEnvironment", &s.id, "Ready", "True").await;

        assert_names(&s.refused(policy(&ns, "open", open())).await, "WL-701", &["spec.egress[0]", "everyone"]);
        assert_names(&s.refused(policy(&ns, "other", to("other", 8080))).await, "WL-701", &["app=other", "is not declared"]);
        let cilium = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "open", "namespace": ns}, "spec": {"endpointSelector": {}, "egress": [{"toEntities": ["all"]}]}});
        assert_names(&s.refused(cilium).await, "WL-701", &["toEntities"]);
        s.create(policy(&ns, "same", to("store", 8080))).await.unwrap();
        let wider = json!({"spec": to("store", 8081)});
        let refused = s.patch("networking.k8s.io/v1", "NetworkPolicy", Some(&ns), "same", wider).await.unwrap_err().to_string();
        assert_names(&refused, "WL-701", &["TCP 8081"]);
        // The neighbour that is in no environment writes what it likes.
        s.create(policy(&store, "open", open())).await.unwrap();

        let (allowed, other) = (address(&s, &store, "store").await, address(&s, &store, "other").await);
        assert_eq!(attempt(&s, &ns, "to-store", &format!("{allowed}:8080")).await, "Succeeded");
        assert_eq!(attempt(&s, &ns, "to-other", &format!("{other}:8080")).await, "Failed");
    })
    .await;
}

/// A policy that opens everything and got past admission opens nothing, while the cluster has an Admin tier.
/// `disruption::tier` takes the tier away under the same policy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_tier_holds_against_a_policy_that_got_past_admission() {
    scenario("tier", |s| async move {
        let (ns, store, gateway) = (s.namespace("in", &[]).await, s.namespace("store", &[]).await, s.namespace("gateway", &[]).await);
        for (namespace, name) in [(&store, "store"), (&store, "other"), (&gateway, "gateway"), (&gateway, "stranger")] {
            s.create(plain_pod(namespace, name)).await.unwrap();
        }
        s.create(wide_open(&ns)).await.unwrap();
        let mut env = environment(&s.id, &ns, &["*"]);
        let port = json!([{"protocol": "TCP", "port": 8080}]);
        env["spec"]["network"] = json!({
            "ingress": [{"name": "gateway", "from": {"pods": {"namespace": gateway, "labels": {"app": "gateway"}}}, "ports": port}],
            "egress": [{"name": "store", "to": {"pods": {"namespace": store, "labels": {"app": "store"}}}, "ports": port}],
        });
        s.create(env).await.unwrap();
        let (reason, message) = s.condition("WeightEnvironment", &s.id, "AdminTierApplied", "True").await;
        assert_eq!(reason, "Applied", "{message}");
        let (reason, message) = s.condition("WeightEnvironment", &s.id, "NetworkContained", "False").await;
        assert_eq!(reason, "UndeclaredOpening", "{message}");

        let mut inside = plain_pod(&ns, "inside");
        // The kubelet comes from the node.
        inside["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1});
        s.create(inside).await.unwrap();
        let at = format!("{}:8080", address(&s, &ns, "inside").await);
        let (declared, other) = (address(&s, &store, "store").await, address(&s, &store, "other").await);
        for name in ["gateway", "stranger"] {
            address(&s, &gateway, name).await;
        }
        // Into it.
        connect(&gateway, "gateway", &at).await.unwrap();
        assert!(connect(&gateway, "stranger", &at).await.is_err());
        // Out of it: names are resolved, and neither pods nor addresses are reached that are not declared.
        assert_eq!(attempt(&s, &ns, "to-store", &format!("{declared}:8080")).await, "Succeeded");
        assert_eq!(attempt(&s, &ns, "to-other", &format!("{other}:8080")).await, "Failed");
        assert_eq!(attempt(&s, &ns, "to-api", "10.96.0.1:443").await, "Failed");
        let mut dns = plain_pod(&ns, "dns");
        dns["spec"]["containers"][0] = json!({"name": "main", "image": AGNHOST, "command": ["/bin/sh", "-c",
            "for i in 1 2 3 4 5; do nslookup -type=a kubernetes.default.svc.cluster.local && exit 0; sleep 1; done; exit 7"]});
        s.create(dns).await.unwrap();
        s.phase(&ns, "dns", "Succeeded").await;
        eventually("the kubelet to call the pod ready", SOON, || async {
            let pod = s.get("v1", "Pod", Some(&ns), "inside").await.map_err(|e| e.to_string())?;
            let status = &pod.data["status"]["containerStatuses"][0];
            if status["ready"] == true { Ok(()) } else { Err(status.to_string()) }
        })
        .await;

        // Who puts the tier out of the way sees it back.
        let policy = format!("weightlock-0-{}", s.id);
        s.delete("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", None, &policy).await;
        eventually("the tier to be back", SOON, || async {
            s.get("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", None, &policy).await.map_err(|e| e.to_string())
        })
        .await;
        // It goes with the mode.
        s.patch("weightlock.dev/v1alpha1", "WeightEnvironment", None, &s.id, json!({"spec": {"modes": {"network": "Audit"}}})).await.unwrap();
        let (reason, _) = s.condition("WeightEnvironment", &s.id, "AdminTierApplied", "False").await;
        assert_eq!(reason, "Audit");
        eventually("what is no longer denied to be reached", SOON, || connect(&gateway, "stranger", &at)).await;
        assert!(s.get("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", None, &policy).await.is_err());
    })
    .await;
}

/// A NetworkPolicy that allows everything, in both directions.
pub fn wide_open(namespace: &str) -> serde_json::Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "open", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}})
}
