//! Says whether this is the Windows Subsystem for Linux.

use fleetune_core::inventory::Wsl;

/// What was read off the machine.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of which may be missing")]
#[derive(Clone, Debug, Default)]
pub struct WslFacts {
    /// `/proc/sys/kernel/osrelease`.
    pub kernel_release: String,
    /// `/dev/dxg` exists: the paravirtual GPU.
    pub has_dxg: bool,
    /// `/run/WSL` exists.
    pub has_run_wsl: bool,
    /// `/mnt/wsl` exists.
    pub has_mnt_wsl: bool,
    /// `WSL_DISTRO_NAME` or `WSL_INTEROP` is set.
    pub has_variable: bool,
}

/// The verdict, in the order of trust: a kernel that names WSL is enough; `microsoft` alone is not, since the images
/// of Microsoft's cloud carry it too; any witness is enough under a kernel of any name (people build their own).
///
/// The variables are missing under services and cleaned environments, so their absence proves nothing.
pub fn detect(facts: &WslFacts) -> Wsl {
    let release = facts.kernel_release.to_ascii_lowercase();
    let says_wsl = release.contains("wsl");
    let witness = facts.has_dxg || facts.has_run_wsl || facts.has_mnt_wsl || facts.has_variable;
    Wsl {
        detected: says_wsl || witness,
        kernel_says_so: says_wsl || release.contains("microsoft"),
        has_dxg: facts.has_dxg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_follows_kernel_and_witnesses() {
        let witness = |name: &str| WslFacts {
            has_dxg: name == "dxg",
            has_run_wsl: name == "run",
            has_mnt_wsl: name == "mnt",
            has_variable: name == "variable",
            ..WslFacts::default()
        };
        for (kernel, seen, detected, kernel_says_so) in [
            ("5.15.167.4-microsoft-standard-WSL2", "", true, true),
            ("4.4.0-19041-Microsoft", "", false, true),
            ("4.4.0-19041-Microsoft", "run", true, true),
            ("5.15.0-1053-azure-microsoft", "", false, true),
            ("6.6.36-custom", "dxg", true, false),
            ("6.6.36-custom", "mnt", true, false),
            ("6.6.36-custom", "variable", true, false),
            ("6.8.0-45-generic", "", false, false),
            ("", "", false, false),
        ] {
            let verdict = detect(&WslFacts { kernel_release: kernel.to_owned(), ..witness(seen) });
            let expected = Wsl { detected, kernel_says_so, has_dxg: seen == "dxg" };
            assert_eq!(verdict, expected, "{kernel} {seen}");
        }
    }
}
