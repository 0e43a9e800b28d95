//! Who reaches whom: what is computed of declarations, and what every pod sees of every other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use weightlock::api::Protocol;
use weightlock::domain::World;
use weightlock::domain::network::{Declaration, Destination, End, reach};
use weightlock::domain::world::Settings;
use weightlock::index;

use crate::harness::*;
use crate::network::address;

/// What is tried on each pod: TCP where it listens and where it does not (a refusal got through, too), and UDP.
const TRIED: [(&str, Protocol, u16); 3] =
    [("tcp", Protocol::TCP, 8080), ("tcp", Protocol::TCP, 8081), ("udp", Protocol::UDP, 8081)];

/// Numbers from a seed, so that a run that failed can be had again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        // The multiplier of Knuth's MMIX; its upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn rules(&mut self, side: &str, peers: &[Value]) -> Vec<Value> {
        let tcp = |port, end: Option<u16>| json!({"protocol": "TCP", "port": port, "endPort": end});
        let ports = [tcp(8080, None), tcp(8081, None), tcp(8080, Some(8081)), json!({"protocol": "UDP", "port": 8081})];
        let number = 1 + self.below(3);
        (0..number)
            .map(|n| {
                let (peer, port) = (&peers[self.below(peers.len())], &ports[self.below(ports.len())]);
                json!({"name": format!("r{n}"), side: peer, "ports": [port]})
            })
            .collect()
    }
}

/// A pod that others connect to.
struct Server {
    namespace: String,
    name: String,
    labels: BTreeMap<String, String>,
    address: String,
}

impl Server {
    fn end(&self) -> End {
        let pod = Some((self.namespace.clone(), self.labels.clone()));
        End { pod, addresses: vec![self.address.parse().unwrap()] }
    }
}

/// Two environments with declarations by chance, one of them with two namespaces, and a namespace in none; two pods in each. Every
/// pod tries every other, and the Service in front of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_reach_what_is_declared_and_nothing_else() {
    scenario("reach", |s| async move {
        let seed = std::env::var("WEIGHTLOCK_TEST_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = seed.unwrap_or(u64::from(time.subsec_nanos()));
        eprintln!("WEIGHTLOCK_TEST_SEED={seed}");
        let mut namespaces = Vec::new();
        for role in ["a", "a2", "b", "out"] {
            namespaces.push(s.namespace(role, &[]).await);
        }
        let [a, a2, b, out] = namespaces.clone().try_into().unwrap();
        let (env_a, env_b) = (format!("{}-a", s.id), format!("{}-b", s.id));
        let servers = servers(&s, &namespaces).await;

        let mut numbers = Numbers(seed);
        let one = &servers[numbers.below(servers.len())].address;
        let peers = [
            json!({"self": {}}),
            json!({"environment": env_a}),
            json!({"environment": env_b}),
            json!({"pods": {"namespace": out, "labels": {"app": "x"}}}),
            json!({"cidr": format!("{one}/32")}),
        ];
        for (name, members) in [(&env_a, vec![&a, &a2]), (&env_b, vec![&b])] {
            let mut environment = environment(name, members[0], &["*"]);
            environment["spec"]["members"] =
                members.iter().map(|namespace| json!({"namespace": namespace, "serviceAccounts": ["*"]})).collect();
            environment["spec"]["network"] =
                json!({"egress": numbers.rules("to", &peers), "ingress": numbers.rules("from", &peers)});
            eprintln!("{name}: {}", environment["spec"]["network"]);
            s.create(environment).await.unwrap();
        }
        for name in [&env_a, &env_b] {
            s.condition("WeightEnvironment", name, "Ready", "True").await;
        }

        let seen = seen(&s, &servers).await;
        let world = index::snapshot(&s.client, Settings::default()).await.unwrap();
        let expected = expected(&world, &servers);
        let all = servers.len() * servers.len() * (TRIED.len() + 1);
        eprintln!("{} of {all} are declared", expected.len());
        assert!(!expected.is_empty() && expected.len() < all, "seed {seed}: it tells nothing");
        let differences: Vec<_> = seen.symmetric_difference(&expected).collect();
        assert!(
            differences.is_empty(),
            "seed {seed}: seen {}, declared {}, differ in {differences:#?}",
            seen.len(),
            expected.len()
        );

        // The command says the same.
        for (from, to) in [(&servers[0], &servers[4]), (&servers[6], &servers[0])] {
            let (client, server) =
                (format!("{}/{}", from.namespace, from.name), format!("{}/{}", to.namespace, to.name));
            let ran = weightlock(&["reach", &client, &server, "8080/TCP"], "").await;
            let declared = expected.contains(&line(from, to, "tcp", &to.address, 8080));
            assert_eq!(ran.ok, declared, "{ran:?}");
            assert!(ran.stdout.contains(if declared { ": declared" } else { ": not declared\n" }), "{ran:?}");
        }
    })
    .await;
}

/// Two pods in each namespace, each with a Service in front of it.
async fn servers(s: &Stage, namespaces: &[String]) -> Vec<Server> {
    let mut servers = Vec::new();
    for namespace in namespaces {
        for app in ["x", "y"] {
            let mut pod = plain_pod(namespace, app);
            pod["metadata"]["labels"] = json!({"app": app, "serves": app});
            pod["spec"]["containers"][0]["args"] = json!(["netexec", "--http-port=8080", "--udp-port=8081"]);
            s.create(pod).await.unwrap();
            s.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": app, "namespace": namespace},
                "spec": {"selector": {"serves": app}, "ports": [{"port": 8080}]}}))
                .await
                .unwrap();
        }
    }
    for namespace in namespaces {
        for app in ["x", "y"] {
            servers.push(Server {
                namespace: namespace.clone(),
                name: app.into(),
                labels: BTreeMap::from([("app".into(), app.into()), ("serves".into(), app.into())]),
                address: address(s, namespace, app).await,
            });
        }
    }
    servers
}

/// Of each namespace and label one pod that tries everything once it runs, since nobody can exec in an environment.
async fn seen(s: &Stage, servers: &[Server]) -> BTreeSet<String> {
    let mut tries = String::new();
    for to in servers {
        let service = s.get("v1", "Service", Some(&to.namespace), &to.name).await.unwrap();
        let service = text(&service.data["spec"]["clusterIP"]);
        for (protocol, _, port) in TRIED {
            tries += &format!("try {protocol} {} {port} & ", to.address);
        }
        tries += &format!("try tcp {service} 8080 & ");
    }
    let script = format!(
        "try() {{ for n in 1 2 3; do r=$(/agnhost connect --protocol=$1 --timeout=2s $2:$3 2>&1) && {{ echo $1 $2 $3; return; }}; \
         case $r in *REFUSED*) echo $1 $2 $3; return;; esac; done; }}; {tries} wait"
    );
    for from in servers {
        let mut pod = plain_pod(&from.namespace, &format!("{}-tries", from.name));
        pod["metadata"]["labels"] = json!({"app": from.name});
        pod["spec"]["containers"][0] = json!({"name": "main", "image": AGNHOST, "command": ["/bin/sh", "-c", script]});
        s.create(pod).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    for from in servers {
        let name = format!("{}-tries", from.name);
        s.phase(&from.namespace, &name, "Succeeded").await;
        let logs = kubectl(&["logs", "-n", &from.namespace, &name]).await.success();
        for tried in logs.lines() {
            let [protocol, address, port] = tried.split(' ').collect::<Vec<_>>()[..] else { panic!("{tried:?}") };
            seen.insert(format!("{} {} to {protocol} {address} {port}", from.namespace, from.name));
        }
    }
    // By the names of pods, as what is expected.
    let mut named = BTreeSet::new();
    for to in servers {
        let service = s.get("v1", "Service", Some(&to.namespace), &to.name).await.unwrap();
        let service = text(&service.data["spec"]["clusterIP"]);
        for from in servers {
            for (protocol, _, port) in TRIED {
                if seen.remove(&format!("{} {} to {protocol} {} {port}", from.namespace, from.name, to.address)) {
                    named.insert(line(from, to, protocol, &to.address, port));
                }
            }
            if seen.remove(&format!("{} {} to tcp {service} 8080", from.namespace, from.name)) {
                named.insert(line(from, to, "tcp", "its Service", 8080));
            }
        }
    }
    assert!(seen.is_empty(), "reached what nobody was told to try: {seen:?}");
    named
}

/// Cilium counts addresses of pods as addresses on this cluster.
fn expected(world: &World, servers: &[Server]) -> BTreeSet<String> {
    let mut expected = BTreeSet::new();
    for from in servers {
        // Who tries has no part in what is served.
        let labels = BTreeMap::from([("app".to_string(), from.name.clone())]);
        let client = End { pod: Some((from.namespace.clone(), labels)), addresses: vec![] };
        for to in servers {
            for (protocol, kind, port) in TRIED {
                let destination = Destination { protocol: kind, port };
                if reach(world, &client, &to.end(), destination).unwrap().declaration() != Declaration::No {
                    expected.insert(line(from, to, protocol, &to.address, port));
                    if port == 8080 {
                        expected.insert(line(from, to, protocol, "its Service", port));
                    }
                }
            }
        }
    }
    expected
}

fn line(from: &Server, to: &Server, protocol: &str, at: &str, port: u16) -> String {
    format!("{}/{} to {}/{} at {at}, {protocol} {port}", from.namespace, from.name, to.namespace, to.name)
}
