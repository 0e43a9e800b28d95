//! Admission end to end: dry-run creation of pods with and without Weightlock's configurations, in turns on the same API
//! server.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::arguments::Arguments;
use super::idle::{self, Calls};
use super::objects::{Plan, UNRELATED, model_server, ordinary, serving};
use super::processes::{Processes, processor_time, wait};
use super::report::Report;
use super::server::Server;
use super::statistics::{Durations, median};

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";
const BINDINGS: &str = "validatingadmissionpolicybindings";
/// The API server takes policies over once a second, whatever the probes say.
const SETTLE: Duration = Duration::from_millis(1500);

/// The states in turn.
const STATES: [State; 3] = [State::With, State::Without, State::Idle];

/// What the API server goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of ours.
    Without,
    /// A webhook that does nothing, asked for the same pods as often as ours, and one policy that does nothing.
    Idle,
    /// All that Weightlock has written.
    With,
}

/// What the states have in the API server, as it can be written: path and object.
struct Configurations {
    ours: Vec<(String, Value)>,
    idle: Vec<(String, Value)>,
}

impl Configurations {
    async fn read(server: &Server) -> Result<Self> {
        let (mut ours, mut idle) = (Vec::new(), Vec::new());
        for kind in [BINDINGS, "mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
            let path = format!("{REGISTRATION}/{kind}");
            let list = server.get(&format!("{path}?labelSelector=app.kubernetes.io/managed-by=weightlock")).await?;
            for item in list["items"].as_array().into_iter().flatten() {
                let mut object = item.clone();
                object["metadata"] = json!({"name": item["metadata"]["name"], "labels": item["metadata"]["labels"]});
                idle.extend(idle::configuration(&object).map(|object| (path.clone(), object)));
                ours.push((path.clone(), object));
            }
        }
        ensure!(ours.len() > 3 && idle.len() == 2, "Weightlock has written no configurations");
        let kinds = ["validatingadmissionpolicies", BINDINGS].map(|kind| format!("{REGISTRATION}/{kind}"));
        idle.extend(kinds.into_iter().zip(idle::policy(UNRELATED)));
        Ok(Self { ours, idle })
    }

    fn of(&self, state: State) -> &[(String, Value)] {
        match state {
            State::Without => &[],
            State::Idle => &self.idle,
            State::With => &self.ours,
        }
    }

    async fn set(&self, server: &Server, from: State, to: State) -> Result<()> {
        for (path, object) in self.of(from) {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            server.put("DELETE", &format!("{path}/{name}"), &Value::Null).await?;
        }
        for (path, object) in self.of(to) {
            server.put("POST", path, object).await?;
        }
        Ok(())
    }
}

/// A pod and where it is created, for pretence.
struct Arm {
    path: String,
    body: Vec<u8>,
}

impl Arm {
    fn new(namespace: &str, pod: &Value) -> Self {
        Self { path: format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"), body: pod.to_string().into_bytes() }
    }

    async fn status(&self, server: &Server) -> Result<u16> {
        Ok(server.send("POST", &self.path, self.body.clone()).await?.status)
    }
}

struct Arms {
    inside: Arm,
    unrelated: Arm,
    /// Refused by the webhook, and by a policy.
    refused: [Arm; 2],
    /// Refused by the policy that else does nothing.
    idle: Arm,
}

impl Arms {
    fn new(plan: &Plan) -> Self {
        let (namespace, claim) = plan.claim_of(0);
        let mut elsewhere = ordinary("elsewhere", "any");
        elsewhere["spec"]["volumes"][1] =
            json!({"name": "data", "nfs": {"server": "nas-7.example.com", "path": "/models/m7/v1"}});
        let mut idle = ordinary("idle", "any");
        idle["spec"]["nodeName"] = idle::NODE.into();
        Self {
            inside: Arm::new(&namespace, &model_server("measured", &claim)),
            unrelated: Arm::new(UNRELATED, &ordinary("measured", "data")),
            refused: [Arm::new(&serving(1, 0), &model_server("refused", "nowhere")), Arm::new(UNRELATED, &elsewhere)],
            idle: Arm::new(UNRELATED, &idle),
        }
    }

    /// Whether the API server goes by a state.
    async fn in_force(&self, server: &Server, state: State, idle: &Calls) -> Result<()> {
        let before = idle.count();
        let mut found = Vec::new();
        for arm in [&self.inside, &self.unrelated].into_iter().chain(&self.refused).chain([&self.idle]) {
            found.push(arm.status(server).await?);
        }
        let if_refused = |by: State| if state == by { 403 } else { 201 };
        let refused = if_refused(State::With);
        ensure!(found == [201, 201, refused, refused, if_refused(State::Idle)], "{found:?}");
        let asked = idle.count() - before;
        // For the two pods that are in environments.
        ensure!(asked == if state == State::Idle { 4 } else { 0 }, "the idle webhook was asked {asked} times");
        Ok(())
    }

    /// Switches, and waits until the API server goes by it.
    async fn switch(
        &self,
        server: &Server,
        configurations: &Configurations,
        (from, to): (State, State),
        idle: &Calls,
    ) -> Result<()> {
        configurations.set(server, from, to).await?;
        wait(60, "the API server goes by what was written", async || self.in_force(server, to, idle).await.map(Some))
            .await?;
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }
}

/// One half of a pair: how long requests took, inside and unrelated by turns.
async fn half(server: &Server, arms: &Arms, requests: usize, all: &mut [Durations; 2]) -> Result<[f64; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..requests + 5 {
        for (arm, (times, all)) in [&arms.inside, &arms.unrelated].into_iter().zip(times.iter_mut().zip(all.iter_mut()))
        {
            let started = Instant::now();
            let status = arm.status(server).await?;
            let took = started.elapsed();
            ensure!(status == 201, "{}: {status}", arm.path);
            // The first ones after a switch open connections.
            if number >= 5 {
                times.push(took.as_secs_f64() * 1e3);
                all.add(took);
            }
        }
    }
    Ok(times.map(|times| median(&times).unwrap_or_default()))
}

/// Milliseconds that the API server is on a processor for each request: what else runs on the machine is not in it.
async fn time_on_processor(arguments: &Arguments, server: &Server, arms: &Arms) -> Result<[f64; 2]> {
    let mut times = [0.0; 2];
    for (arm, time) in [&arms.inside, &arms.unrelated].into_iter().zip(&mut times) {
        // Ticks are of 10 ms, so there have to be many.
        let requests = arguments.requests * 2;
        let before = processor_time(arguments.server_process)?;
        for _ in 0..requests {
            ensure!(arm.status(server).await? == 201, "a pod is refused");
        }
        let busy = processor_time(arguments.server_process)?.saturating_sub(before);
        *time = busy.as_secs_f64() * 1e3 / requests as f64;
    }
    Ok(times)
}

pub async fn measure(
    arguments: &Arguments,
    server: &Server,
    processes: &Processes,
    plan: &Plan,
    report: &mut Report,
) -> Result<()> {
    let configurations = Configurations::read(server).await?;
    let idle = idle::start(&arguments.address, processes.tls()).await?;
    let arms = Arms::new(plan);
    arms.in_force(server, State::With, &idle).await?;

    // Who is asked for whom.
    let before = processes.webhook_requests().await?;
    let unrelated = 1_000;
    for _ in 0..unrelated {
        ensure!(arms.unrelated.status(server).await? == 201, "an unrelated pod is refused");
    }
    let between = processes.webhook_requests().await?;
    let inside = 200;
    for _ in 0..inside {
        ensure!(arms.inside.status(server).await? == 201, "a model server is refused");
    }
    let after = processes.webhook_requests().await?;
    report.calls(unrelated, between - before, (after - between) / f64::from(inside));

    let mut halves = Vec::new();
    let durations = || anyhow::Ok([Durations::new()?, Durations::new()?]);
    let mut all = [durations()?, durations()?, durations()?];
    let mut at = State::With;
    for round in 0..arguments.pairs {
        let mut found = [Half::default(); 3];
        for turn in 0..STATES.len() {
            let state = STATES[(round + turn) % STATES.len()];
            if state != at {
                arms.switch(server, &configurations, (at, state), &idle).await?;
                at = state;
            }
            found[state as usize] = Half {
                median: half(server, &arms, arguments.requests, &mut all[state as usize]).await?,
                busy: time_on_processor(arguments, server, &arms).await?,
            };
        }
        halves.push(found);
        let added = |state, arm| added(&halves[round..], state, arm, |half| half.median)[0];
        eprintln!(
            "load: round {round}: inside {:+.2} ms (of a webhook that does nothing {:+.2}), unrelated {:+.3} ms (of a policy that does nothing {:+.3})",
            added(State::With, INSIDE),
            added(State::Idle, INSIDE),
            added(State::With, OUTSIDE),
            added(State::Idle, OUTSIDE)
        );
    }
    if at != State::With {
        arms.switch(server, &configurations, (at, State::With), &idle).await?;
    }
    for (arm, what, doing_nothing, target) in [
        (INSIDE, "pod of an environment", "of a webhook that does nothing", 2.0),
        (OUTSIDE, "unrelated pod", "of a policy that does nothing", 0.2),
    ] {
        let of = |state: State| &all[state as usize][arm];
        let median = |state| added(&halves, state, arm, |half| half.median);
        let busy = |state| added(&halves, state, arm, |half| half.busy);
        report.admission(what, target, of(State::With), of(State::Without), &median(State::With));
        report.idle(doing_nothing, of(State::Idle), &median(State::Idle), &median(State::With));
        report.processor(what, &busy(State::With));
        report.processor(doing_nothing, &busy(State::Idle));
    }
    Ok(())
}

/// Places of the two arms in what is measured of both.
const INSIDE: usize = 0;
const OUTSIDE: usize = 1;

/// What was found in one state in one round, in milliseconds for each request.
#[derive(Clone, Copy, Default)]
struct Half {
    median: [f64; 2],
    busy: [f64; 2],
}

/// What a state takes more than there is without us, round by round.
fn added(rounds: &[[Half; 3]], state: State, arm: usize, figure: fn(&Half) -> [f64; 2]) -> Vec<f64> {
    let of = |round: &[Half; 3], state: State| figure(&round[state as usize])[arm];
    rounds.iter().map(|round| of(round, state) - of(round, State::Without)).collect()
}
