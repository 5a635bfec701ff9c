//! Settings as flags of a build of `llama-bench`.

use fleetune_core::runner::{CpuList, FlashAttn, LoadMode, Settings};
use fleetune_core::{FailKind, Value, Workload};

use super::capabilities::Capabilities;
use crate::executor::Failure;

/// More layers than any model has: all. Builds differ in what they make of a negative number.
const ALL_LAYERS: &str = "999";

/// What is to be run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Arguments {
    /// Behind the program's name.
    pub(super) flags: Vec<String>,
    /// CPUs that the program is bound to.
    pub(super) cpus: Option<CpuList>,
}

/// Tokens of one run of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) prompt: u32,
    pub(super) generated: u32,
    /// In the context beforehand.
    pub(super) depth: u32,
}

/// The runs that a workload needs: prompt, and generation behind it. A build that knows no depth (before May 2025)
/// generates from an empty context, in the same run.
pub(super) fn tests(known: &Capabilities, workload: &Workload) -> Vec<Test> {
    let Workload { prompt, gen_tokens: generated, .. } = *workload;
    if known.has("-d") {
        vec![Test { prompt, generated: 0, depth: 0 }, Test { prompt: 0, generated, depth: prompt }]
    } else {
        vec![Test { prompt, generated, depth: 0 }]
    }
}

/// The arguments for one run; a setting that this build does not take is refused.
pub(super) fn arguments(
    known: &Capabilities,
    model: &str,
    settings: &Settings,
    workload: &Workload,
    test: Test,
) -> Result<Arguments, Failure> {
    let mut made = Arguments { flags: Vec::new(), cpus: settings.cpu_affinity.clone() };
    let output = if known.takes("-o", "jsonl") { "jsonl" } else { "json" };
    let counts = [test.prompt, test.generated, test.depth, workload.repetitions].map(|count| count.to_string());
    for (flag, value) in [
        ("-m", model),
        ("-o", output),
        ("-p", &counts[0]),
        ("-n", &counts[1]),
        ("-d", &counts[2]),
        ("-r", &counts[3]),
        ("-pg", "0,0"),
    ] {
        if known.has(flag) {
            made.push(flag, value);
        }
    }
    // What it says of buffers, layers and progress.
    for flag in ["-v", "--progress"] {
        if known.has(flag) {
            made.flags.push(flag.to_owned());
        }
    }
    if workload.warmup == 0 && known.has("--no-warmup") {
        made.flags.push("--no-warmup".to_owned());
    }
    for (name, value) in settings.to_params() {
        made.set(known, settings, &name, &value)?;
    }
    Ok(made)
}

impl Arguments {
    fn push(&mut self, flag: &str, value: impl Into<String>) {
        self.flags.extend([flag.to_owned(), value.into()]);
    }

    fn set(&mut self, known: &Capabilities, settings: &Settings, name: &str, value: &Value) -> Result<(), Failure> {
        let refuse = |why: String| Err(Failure::new(FailKind::InvalidConfig, why));
        match name {
            "cpu_affinity" => return Ok(()),
            "n_threads_batch" if settings.n_threads_batch == settings.n_threads => return Ok(()),
            _ => {}
        }
        let Some(flag) = known.flag(name) else {
            return refuse(format!("this `llama-bench` has no option for the setting `{name}`; leave it out"));
        };
        let switch = |on: bool| match (on, known.takes(flag, "on")) {
            (true, true) => "on",
            (false, true) => "off",
            (true, false) => "1",
            (false, false) => "0",
        };
        let text = match (name, value) {
            ("n_gpu_layers", Value::Int(layers)) if *layers < 0 => ALL_LAYERS.to_owned(),
            // The program asks for the opposite.
            ("offload_kqv" | "op_offload", Value::Bool(on)) => switch(!on).to_owned(),
            (_, Value::Bool(on)) => switch(*on).to_owned(),
            ("flash_attn", _) => match settings.flash_attn.unwrap_or_default() {
                FlashAttn::Auto if known.takes(flag, "auto") => "auto".to_owned(),
                // Builds without the word decide by themselves.
                FlashAttn::Auto => return Ok(()),
                asked => switch(asked == FlashAttn::On).to_owned(),
            },
            ("load_mode", _) if flag == "-mmp" => match settings.load_mode.unwrap_or_default() {
                LoadMode::Auto | LoadMode::Mmap => "1".to_owned(),
                LoadMode::None => "0".to_owned(),
                other => return refuse(format!("this `llama-bench` has no load mode `{other}`; leave it out")),
            },
            (_, Value::Text(text)) => text.clone(),
            (_, other) => other.to_string(),
        };
        self.push(flag, text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fleetune_core::Params;

    use super::*;

    fn made(help: &str, params: &[(&str, Value)]) -> Result<Vec<String>, String> {
        let known = Capabilities::parse(help).unwrap();
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Params>();
        let settings = Settings::from_params(&params).unwrap();
        let workload = Workload { prompt: 64, gen_tokens: 16, repetitions: 3, warmup: 1 };
        let made = tests(&known, &workload).into_iter().map(|test| {
            let made = arguments(&known, "m.gguf", &settings, &workload, test);
            made.map(|made| made.flags.join(" ")).map_err(|failure| failure.message)
        });
        made.collect()
    }

    const NEW: &str = include_str!("../../tests/fixtures/llama-bench/help-0.6.0.txt");
    const OLD: &str = include_str!("../../tests/fixtures/llama-bench/help-2024-05.txt");

    #[test]
    fn each_build_gets_its_own_words() {
        let fa = ("flash_attn", Value::from("on"));
        let mode = ("load_mode", Value::from("none"));
        let kqv = ("offload_kqv", Value::Bool(false));
        let layers = ("n_gpu_layers", Value::Int(-1));
        let all = [fa, mode, kqv, layers];
        assert_eq!(
            made(NEW, &all).unwrap(),
            [
                "-m m.gguf -o jsonl -p 64 -n 0 -d 0 -r 3 -pg 0,0 -v --progress -fa on -lm none -ngl 999 -nkvo 1",
                "-m m.gguf -o jsonl -p 0 -n 16 -d 64 -r 3 -pg 0,0 -v --progress -fa on -lm none -ngl 999 -nkvo 1",
            ]
        );
        assert_eq!(
            made(OLD, &all).unwrap(),
            ["-m m.gguf -o json -p 64 -n 16 -r 3 -pg 0,0 -v -fa 1 -mmp 0 -ngl 999 -nkvo 1"]
        );
        let auto = [("flash_attn", Value::from("auto")), ("load_mode", Value::from("auto"))];
        assert!(made(NEW, &auto).unwrap()[0].ends_with("-fa auto -lm auto"));
        assert!(made(OLD, &auto).unwrap()[0].ends_with("-v -mmp 1"));
    }

    #[test]
    fn what_a_build_does_not_take_is_refused_by_name() {
        assert!(made(OLD, &[("repack", Value::Bool(true))]).unwrap_err().contains("`repack`"));
        assert!(made(OLD, &[("load_mode", Value::from("mlock"))]).unwrap_err().contains("`mlock`"));
        assert!(made(NEW, &[("n_threads_batch", Value::Int(2))]).unwrap_err().contains("`n_threads_batch`"));
        let both = [("n_threads", Value::Int(2)), ("n_threads_batch", Value::Int(2))];
        assert!(made(NEW, &both).unwrap()[1].ends_with("--progress -t 2"));
    }
}
