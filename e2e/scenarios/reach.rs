//! Who reaches whom: what is computed of declarations, and what every pod sees of every other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use weightlock::api::Protocol;
use weightlock::domain::World;
use weightlock::domain::network::{Declaration, Destination, End, reach};
use weightlock::domain::world::Settings;
use weightlock::index;

use crate::harness::*;

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
    /// One, or one of each family on a dual-stack cluster.
    addresses: Vec<String>,
    /// Those of the Service in front of it.
    service: Vec<String>,
}

impl Server {
    /// With those of its addresses that a connection is about.
    fn end(&self, addresses: &[String]) -> End {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        End { pod: Some((self.namespace.clone(), self.labels.clone())), addresses }
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
        let one = &servers[numbers.below(servers.len())].addresses;
        let one = one[numbers.below(one.len())].parse::<std::net::IpAddr>().unwrap();
        let peers = [
            json!({"self": {}}),
            json!({"environment": env_a}),
            json!({"environment": env_b}),
            json!({"pods": {"namespace": out, "labels": {"app": "x"}}}),
            json!({"cidr": ipnet::IpNet::from(one).to_string()}),
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
        let all = servers.len() * targets(&servers).len();
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
            let destination = Destination { protocol: Protocol::TCP, port: 8080 };
            let found = reach(&world, &from.end(&from.addresses), &to.end(&to.addresses), destination).unwrap();
            let declared = found.declaration() != Declaration::No;
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
                "spec": {"selector": {"serves": app}, "ports": [{"port": 8080}], "ipFamilyPolicy": "PreferDualStack"}}))
                .await
                .unwrap();
        }
    }
    for namespace in namespaces {
        for app in ["x", "y"] {
            let pod = s.phase(namespace, app, "Running").await;
            let addresses = pod.data["status"]["podIPs"].as_array().unwrap().iter();
            let addresses: Vec<String> = addresses.map(|address| text(&address["ip"])).collect();
            let service = s.get("v1", "Service", Some(namespace), app).await.unwrap();
            servers.push(Server {
                namespace: namespace.clone(),
                name: app.into(),
                labels: BTreeMap::from([("app".into(), app.into()), ("serves".into(), app.into())]),
                addresses,
                service: service.data["spec"]["clusterIPs"].as_array().unwrap().iter().map(text).collect(),
            });
        }
    }
    servers
}

/// What is tried: a way to a pod.
struct Target<'a> {
    to: &'a Server,
    protocol: &'static str,
    destination: Destination,
    /// Address of the pod, whether or not it is tried by that of its Service.
    address: &'a String,
    /// Address and port, as `agnhost connect` takes them.
    at: String,
}

fn targets(servers: &[Server]) -> Vec<Target<'_>> {
    let at = |address: &str, port: u16| std::net::SocketAddr::new(address.parse().unwrap(), port).to_string();
    let mut targets = Vec::new();
    for to in servers {
        for (address, service) in to.addresses.iter().zip(&to.service) {
            for (protocol, kind, port) in TRIED {
                let destination = Destination { protocol: kind, port };
                targets.push(Target { to, protocol, destination, address, at: at(address, port) });
            }
            let destination = Destination { protocol: Protocol::TCP, port: 8080 };
            targets.push(Target { to, protocol: "tcp", destination, address, at: at(service, 8080) });
        }
    }
    targets
}

/// Of each namespace and label one pod that tries everything once it runs, since nobody can exec in an environment.
async fn seen(s: &Stage, servers: &[Server]) -> BTreeSet<String> {
    let targets = targets(servers);
    let tries: String = targets.iter().map(|target| format!("try {} {} & ", target.protocol, target.at)).collect();
    let script = format!(
        "try() {{ for n in 1 2 3; do r=$(/agnhost connect --protocol=$1 --timeout=2s $2 2>&1) && {{ echo $1 $2; return; }}; \
         case $r in *REFUSED*) echo $1 $2; return;; esac; done; }}; {tries} wait"
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
            let target = targets.iter().find(|target| format!("{} {}", target.protocol, target.at) == tried);
            seen.insert(line(from, target.unwrap_or_else(|| panic!("nobody was told to try {tried:?}"))));
        }
    }
    seen
}

/// Cilium counts addresses of pods as addresses on this cluster.
fn expected(world: &World, servers: &[Server]) -> BTreeSet<String> {
    let mut expected = BTreeSet::new();
    for from in servers {
        // Who tries has no part in what is served.
        let labels = BTreeMap::from([("app".to_string(), from.name.clone())]);
        let client = End { pod: Some((from.namespace.clone(), labels)), addresses: vec![] };
        for target in targets(servers) {
            let reach = reach(world, &client, &target.to.end(std::slice::from_ref(target.address)), target.destination)
                .unwrap();
            if reach.declaration() != Declaration::No {
                expected.insert(line(from, &target));
            }
        }
    }
    expected
}

fn line(from: &Server, target: &Target<'_>) -> String {
    let to = target.to;
    format!("{}/{} to {}/{} at {} {}", from.namespace, from.name, to.namespace, to.name, target.protocol, target.at)
}
