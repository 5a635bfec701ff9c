//! The verbs of model files, from a synthetic one.

use fleetune_tests::place;
use fleetune_tests::trials::rows;

#[test]
fn estimate_names_what_fits_and_the_command_for_it() {
    let place = place!();
    place.run(&["model", "synth", "--size", "15m", "-o", "m.gguf"]).ok();
    let gpu = ["model", "estimate", "m.gguf", "--ram", "16GiB", "--vram", "2GiB", "--format", "json"];
    let whole = place.run(&gpu).ok().json();
    assert_eq!((&whole["layers"], &whole["recommended"]["n_gpu_layers"]), (&7.into(), &7.into()), "{whole}");
    assert_eq!(whole["command"], "llama-server -m m.gguf -ngl 7 -c 4096");
    for choice in rows(&whole["choices"]) {
        let used = rows(&choice["memory"])[1]["need_mib"].as_u64().unwrap();
        assert!(used + 500 <= 2048, "{choice}");
    }
    let tight = place.run(&[&gpu[..], &["--ngl", "7", "--ctx", "1000000"]].concat()).ok().json();
    assert_eq!((&tight["recommended"], &tight["command"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    let table = place.run(&["model", "estimate", "m.gguf", "--vram", "2GiB"]).ok().stdout;
    assert!(table.contains("7 of 7") && table.contains("not measured"), "{table}");
}
