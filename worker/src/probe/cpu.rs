//! Reads `/proc/cpuinfo`.

use std::collections::BTreeSet;

/// What the file tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuFacts {
    /// Model name; empty where there is none, as on most ARM machines.
    pub model: String,
    /// Distinct pairs of socket and core; `None` where the file does not number cores.
    pub physical_cores: Option<u32>,
}

/// Reads model and cores out of the text of `/proc/cpuinfo`.
pub fn parse_cpuinfo(text: &str) -> CpuFacts {
    let mut model = "";
    let mut cores = BTreeSet::new();
    for processor in text.split("\n\n") {
        let field = |name: &str| {
            processor.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| value.trim())
            })
        };
        if model.is_empty() {
            // `Hardware` is in the last paragraph of older ARM kernels, `cpu` is PowerPC's.
            model = ["model name", "Model", "Hardware", "cpu"].into_iter().find_map(field).unwrap_or("");
        }
        if let Some(core) = field("core id") {
            cores.insert((field("physical id").unwrap_or("0").to_owned(), core.to_owned()));
        }
    }
    let model = model.split_whitespace().collect::<Vec<_>>().join(" ");
    CpuFacts { model, physical_cores: (!cores.is_empty()).then_some(cores.len() as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_threads_of_a_core_count_once() {
        let processor = |number: u32, socket: u32, core: u32| {
            format!(
                "processor\t: {number}\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD Ryzen 9  5950X 16-Core Processor\n\
                 physical id\t: {socket}\nsiblings\t: 4\ncore id\t\t: {core}\ncpu cores\t: 2\n\n"
            )
        };
        let text: String =
            [(0, 0, 0), (1, 0, 1), (2, 0, 0), (3, 0, 1)].into_iter().map(|(n, s, c)| processor(n, s, c)).collect();
        assert_eq!(
            parse_cpuinfo(&text),
            CpuFacts { model: "AMD Ryzen 9 5950X 16-Core Processor".into(), physical_cores: Some(2) }
        );
        let two_sockets: String = [(0, 0, 0), (1, 1, 0)].into_iter().map(|(n, s, c)| processor(n, s, c)).collect();
        assert_eq!(parse_cpuinfo(&two_sockets).physical_cores, Some(2));
    }

    #[test]
    fn arm_board_has_a_model_and_no_core_numbers() {
        let text = "processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\n\
                    processor\t: 1\nBogoMIPS\t: 108.00\n\nRevision\t: c04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n";
        assert_eq!(
            parse_cpuinfo(text),
            CpuFacts { model: "Raspberry Pi 5 Model B Rev 1.0".into(), physical_cores: None }
        );
        assert_eq!(parse_cpuinfo(""), CpuFacts::default());
    }
}
