//! What `--help` says of every command, word by word.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p fleetune-tests --test help` rewrites the files.

use std::path::Path;

use fleetune_tests::{Place, place};

/// Help of `words` as this program prints it, under the name that users know.
fn help(place: &Place, words: &[&str]) -> String {
    let done = place.run(&[words, &["--help"]].concat()).ok();
    let lines = done.stdout.lines().map(|line| line.trim_end().replace("fleetune-e2e", "fleetune"));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// The verbs that `text` lists.
fn verbs(text: &str) -> Vec<String> {
    let listed = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Deeper lines go on with the description of a verb.
    let named = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let words = named.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
    words.filter(|verb| verb != "help").collect()
}

fn compare(name: &str, text: &str, different: &mut Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/help").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    if stored != text {
        different.push(format!("{}:\n{}", path.display(), difference(&stored, text)));
    }
}

/// Lines of one text alone: `-` of the stored one, `+` of the new one.
fn difference(stored: &str, new: &str) -> String {
    let (stored, new): (Vec<_>, Vec<_>) = (stored.lines().collect(), new.lines().collect());
    let gone = stored.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = new.iter().filter(|line| !stored.contains(line)).map(|line| format!("+ {line}"));
    let lines: Vec<_> = gone.chain(come).collect();
    if lines.is_empty() { "the same lines in another order or number".to_owned() } else { lines.join("\n") }
}

#[test]
fn help_of_every_verb_is_as_stored() {
    let place = place!();
    let mut different = Vec::new();
    let top = help(&place, &[]);
    let nouns = verbs(&top);
    assert!(nouns.contains(&"tune".to_owned()), "{nouns:?}");
    compare("fleetune", &top, &mut different);
    for noun in &nouns {
        let text = help(&place, &[noun]);
        compare(&format!("fleetune-{noun}"), &text, &mut different);
        for verb in verbs(&text) {
            compare(&format!("fleetune-{noun}-{verb}"), &help(&place, &[noun, &verb]), &mut different);
        }
    }
    assert!(
        different.is_empty(),
        "help has changed; if it should: UPDATE_SNAPSHOTS=1 cargo test -p fleetune-tests --test help\n\n{}",
        different.join("\n\n")
    );
}

#[test]
fn default_configuration_is_printed_and_can_be_read_back() {
    let place = place!();
    let default = place.run(&["config", "default"]).ok();
    place.write("default.toml", &default.stdout);
    let shown = place.run(&["config", "show", "--config", "default.toml", "--format", "json"]).ok().json();
    assert!(shown.as_array().is_some_and(|settings| settings.len() > 5), "{shown}");
}
