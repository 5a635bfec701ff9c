use super::*;
use crate::workload::{Objective, Workload};

fn settings(layers: i64, batch: i64, flash_attn: &str) -> Params {
    Params::from([
        ("n_gpu_layers".into(), layers.into()),
        ("n_batch".into(), batch.into()),
        ("flash_attn".into(), flash_attn.into()),
    ])
}

fn incident(id: i64, kind: FailKind, worker: &str, settings: Params) -> Incident {
    Incident {
        id,
        device_class: "d".to_owned(),
        model_hash: "m".to_owned(),
        kind,
        worker: WorkerId(worker.to_owned()),
        study: "s".to_owned(),
        trial: TrialNumber(id),
        attempt: Attempt(1),
        at: Timestamp(0),
        settings,
        message: "the engine aborted: GGML_ASSERT(x) failed".to_owned(),
        refuted: false,
    }
}

fn ids(regions: &[UnsafeRegion]) -> Vec<i64> {
    regions.iter().map(|region| region.id).collect()
}

fn benchmark(fixed: Params) -> Benchmark {
    Benchmark {
        model: "m".to_owned(),
        executor: "llama-cpp".to_owned(),
        workload: Workload::default(),
        objective: Objective::Decode,
        fixed,
        timeout_s: 300.0,
        allow_wsl_unsafe: false,
        confirm: true,
        prior: true,
        ignore_regions: false,
    }
}

#[test]
fn beyond_is_at_least_as_much_of_everything_ordered_and_the_rest_equal() {
    let corner = settings(32, 8, "on");
    for (layers, batch, flash_attn, beyond) in [
        (32, 8, "on", true),
        (-1, 2048, "on", true),
        (33, 8, "on", true),
        (31, 2048, "on", false),
        (33, 7, "on", false),
        (33, 2048, "off", false),
    ] {
        assert_eq!(is_beyond(&settings(layers, batch, flash_attn), &corner), beyond, "{layers} {batch} {flash_attn}");
    }
    let all = settings(-1, 8, "on");
    assert!(is_beyond(&all, &all) && !is_beyond(&settings(99, 8, "on"), &all));
}

#[test]
fn a_machine_that_went_down_is_enough() {
    let regions = learn(&[incident(1, FailKind::HostCrash, "w", settings(32, 8, "on"))]);
    assert_eq!(ids(&regions), [1]);
    assert!(regions[0].contains(&settings(40, 8, "on")) && !regions[0].contains(&settings(31, 8, "on")));
    assert_eq!(
        regions[0].why(),
        "at or beyond a configuration under which machines of this class failed: a machine went down (unsafe region 1)"
    );
}

#[test]
fn workers_count_when_they_are_two() {
    use FailKind::WorkerLost;
    let small = settings(20, 8, "on");
    let large = settings(32, 64, "on");
    let one = incident(1, WorkerLost, "w", large.clone());
    assert_eq!(learn(std::slice::from_ref(&one)), []);
    assert_eq!(learn(&[one.clone(), incident(2, WorkerLost, "w", small.clone())]), []);
    // At the smaller of both: what lies below it was never seen to fail.
    assert_eq!(ids(&learn(&[one.clone(), incident(2, WorkerLost, "v", small)])), [2]);
    assert_eq!(
        learn(&[one.clone(), incident(2, WorkerLost, "v", settings(32, 8, "off"))]),
        [],
        "nothing is beyond both"
    );
    // Another worker's machine went down beyond it.
    let crash = incident(2, FailKind::HostCrash, "v", settings(33, 64, "on"));
    assert_eq!(ids(&learn(&[one, crash])), [1]);
}

#[test]
fn crashes_count_when_two_are_alike() {
    let first = incident(1, FailKind::Crash, "w", settings(20, 8, "on"));
    let mut second = incident(2, FailKind::Crash, "w", settings(32, 8, "on"));
    assert_eq!(ids(&learn(&[first.clone(), second.clone()])), [1]);
    second.message = "the runner died by SIGSEGV".to_owned();
    assert_eq!(learn(&[first, second]), []);
    let at = |address: &str| {
        let mut incident = incident(address.len() as i64, FailKind::Crash, "w", settings(20, 8, "on"));
        incident.message = format!("the runner died by SIGSEGV: segfault at {address} ip {}", address.len());
        incident
    };
    assert_eq!(ids(&learn(&[at("0x1"), at("0x7ffe")])), [3], "addresses differ from death to death");
}

#[test]
fn what_was_measured_beyond_it_refutes_an_incident() {
    let refuted = Incident { refuted: true, ..incident(1, FailKind::HostCrash, "w", settings(20, 8, "on")) };
    assert_eq!(learn(&[refuted]), []);
}

#[test]
fn a_region_inside_another_is_left_out_and_they_are_bounded() {
    let down = |id, layers| incident(id, FailKind::HostCrash, "w", settings(layers, 8, "on"));
    assert_eq!(ids(&learn(&[down(1, 32), down(2, 20), down(3, 20), down(4, 25)])), [2]);
    let apart: Vec<_> =
        (1..=200).map(|id| incident(id, FailKind::HostCrash, "w", settings(id, 1_000 - id, "on"))).collect();
    let regions = learn(&apart);
    assert_eq!((regions.len(), regions[0].id), (MAX_REGIONS, 201 - MAX_REGIONS as i64));
}

#[test]
fn a_point_is_what_the_engine_makes_of_a_configuration() {
    let asked = configuration(&benchmark(settings(-1, 2048, "on")), &Params::from([("n_ctx".into(), 512.into())]));
    let point = point(asked, 33);
    for (name, value) in [("n_gpu_layers", 33), ("n_batch", 512), ("n_ubatch", 512), ("n_ctx", 512)] {
        assert_eq!(point[name], Value::Int(value), "{name}");
    }
    assert_eq!(
        super::point(configuration(&benchmark(settings(99, 8, "on")), &Params::new()), 33)["n_gpu_layers"],
        33.into()
    );
    // Every configuration lies at its own point.
    for layers in [-1, 0, 20, 33, 99] {
        let asked = configuration(&benchmark(settings(layers, 64, "auto")), &Params::new());
        assert!(is_beyond(&asked, &super::point(asked.clone(), 33)), "{layers}");
    }
}

#[test]
fn a_search_is_concerned_as_far_as_it_goes_beyond() {
    let corner = point(configuration(&benchmark(settings(32, 8, "on")), &Params::new()), 33);
    let searched = |name: &str| name == "n_gpu_layers" || name == "n_batch";
    let with = |flash_attn: &str| benchmark(Params::from([("flash_attn".into(), flash_attn.into())]));
    assert_eq!(exclusion(&corner, "w", &with("off"), searched), None);
    let exclusion = exclusion(&corner, "w", &with("on"), searched).unwrap();
    assert_eq!(exclusion.bounds.keys().collect::<Vec<_>>(), ["n_batch", "n_gpu_layers"]);
    assert!(exclusion.contains(&Params::from([("n_gpu_layers".into(), 33.into()), ("n_batch".into(), 8.into())])));
    let nothing_left = super::exclusion(&corner, "w", &benchmark(settings(33, 8, "on")), |_| false).unwrap();
    assert!(nothing_left.bounds.is_empty());
}
