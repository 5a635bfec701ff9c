//! What is wrong around the program in a case of `bad_input`, and put right again after it.

use std::fs;

use fleetune_coordinator::storage::testing::PrivatePostgres;
use fleetune_tests::{Done, Place};

use crate::sql::execute;

/// The search whose study must survive every case.
pub const TUNE: &[&str] = &["--trials", "3", "--reps", "2", "--no-confirm"];

/// A version that no program will ever know.
const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (9999, 'from the future', TRUE, ";

/// What is wrong.
#[derive(Clone, Copy)]
pub enum Setup {
    /// The arguments.
    None,
    /// A file of this name and content.
    File(&'static str, &'static str),
    /// `cut.gguf`, the model's first bytes.
    Truncated(usize),
    /// The search space.
    Space(&'static str),
    /// `other.gguf`, a copy of the model.
    OtherModel,
    /// The runner says that it is another version.
    OtherEngine,
    /// The storage was written by a newer program.
    NewerSqlite,
    /// The same.
    NewerPostgres,
    /// The configuration file.
    Config(&'static str),
    /// A variable.
    Environment(&'static str, &'static str),
}

impl Setup {
    /// Runs the program with `arguments` in this state of things.
    pub fn run(self, place: &Place, storage: &str, arguments: &[&str]) -> Done {
        let mut command = place.command();
        let mut storage = storage.to_owned();
        let mut space = "space.toml";
        let mut remove = None;
        match self {
            Self::None => {}
            Self::File(name, content) => {
                // In the place of a folder that an earlier case made, where there is one.
                let _ = fs::rename(place.path(name), place.path("moved"));
                place.write(name, content);
                remove = Some(place.path(name));
            }
            Self::Truncated(bytes) => {
                let model = fs::read(place.model()).unwrap();
                fs::write(place.path("cut.gguf"), &model[..bytes]).unwrap();
            }
            Self::Space(content) => {
                place.write("bad.toml", content);
                space = "bad.toml";
            }
            Self::OtherModel => {
                // One weight differs.
                let mut model = fs::read(place.model()).unwrap();
                *model.last_mut().unwrap() ^= 1;
                fs::write(place.path("other.gguf"), model).unwrap();
            }
            Self::OtherEngine => {
                let runner = place.path("other-runner");
                fs::copy(place.runner(), &runner).unwrap();
                place.write("other-runner.engine.json", r#"{"version": "2"}"#);
                command.env("FLEETUNE_RUNNER", runner);
            }
            Self::NewerSqlite => {
                storage = place.sqlite("newer.db");
                // An empty file is an empty database.
                place.write("newer.db", "");
                place.run(&["study", "list", "--storage", &storage]).ok();
                execute(&storage, &[&format!("{NEWER} x'00', 0)")]);
            }
            Self::NewerPostgres => {
                storage = PrivatePostgres::start().empty_database();
                place.run(&["study", "list", "--storage", &storage]).ok();
                execute(&storage, &[&format!("{NEWER} '\\x00', 0)")]);
            }
            Self::Config(content) => {
                fs::create_dir_all(place.path("config/fleetune")).unwrap();
                place.write("config/fleetune/config.toml", content);
                remove = Some(place.path("config/fleetune/config.toml"));
            }
            Self::Environment(name, value) => {
                command.env(name, value);
            }
        }
        let own_runner = matches!(self, Self::OtherEngine);
        let runner = place.runner().display().to_string();
        for argument in arguments {
            match *argument {
                "%" => {
                    command.args(["tune", "m.gguf", "--reps", "2"]);
                    // Given twice, an option is refused.
                    for (option, value) in [("--space", space), ("--study", "s"), ("--runner", runner.as_str())] {
                        let known_otherwise = option == "--runner" && own_runner;
                        if !arguments.contains(&option) && !known_otherwise {
                            command.args([option, value]);
                        }
                    }
                }
                "RUNNER" => {
                    command.arg(&runner);
                }
                other => {
                    command.arg(other);
                }
            }
        }
        // Where neither a storage nor its default is the matter.
        if !arguments.contains(&"--storage") && !matches!(self, Self::File("data/fleetune", _)) {
            command.args(["--storage", &storage]);
        }
        let done = place.start_command(command).wait();
        if let Some(file) = remove {
            fs::remove_file(&file).unwrap();
            let _ = fs::rename(place.path("moved"), file);
        }
        done
    }
}
