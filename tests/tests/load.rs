//! The load generator drives a server and counts what it sees. Its numbers are for `make bench`, on a quiet machine.

use std::process::Command;

use fleetune_tests::place;

#[test]
fn load_generator_measures_every_combination_without_an_error() {
    let place = place!();
    let mut load = Command::new(env!("CARGO_BIN_EXE_fleetune-load"));
    place.isolate(&mut load);
    load.args(["--program", env!("CARGO_BIN_EXE_fleetune-e2e"), "--sampler", "tpe", "--clients", "1,4"]);
    load.args(["--seconds", "0.3", "--repetitions", "2", "--format", "json"]);
    let report = place.start_command(load).wait().ok().json();

    assert!(report["machine"]["disk_sync_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{report}");
    let cells = report["cells"].as_array().expect("there are cells");
    let combinations: Vec<_> = cells.iter().map(|cell| (cell["storage"].as_str(), cell["clients"].as_u64())).collect();
    let [sqlite, postgres] = [Some("sqlite"), Some("postgres")];
    assert_eq!(combinations, [(sqlite, Some(1)), (sqlite, Some(4)), (postgres, Some(1)), (postgres, Some(4))]);
    for cell in cells {
        assert_eq!(cell["errors"], 0, "{cell}");
        assert_eq!(cell["pairs_per_s"].as_array().map(Vec::len), Some(2), "{cell}");
        assert!(cell["ask_ms"]["count"].as_u64().is_some_and(|count| count > 0), "{cell}");
        let (median, most) = (cell["tell_ms"]["p50"].as_f64(), cell["tell_ms"]["max"].as_f64());
        assert!(Some(0.0) < median && median <= most, "{cell}");
        assert!(cell["server_peak_rss_mib"].as_f64().is_some_and(|mib| mib > 1.0), "{cell}");
    }
}
