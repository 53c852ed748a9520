//! Shell completions and man pages, made from the same definitions that parse the command line.

use super::{Done, Failure, args, out};
use crate::error::Error;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) fn completions_command() -> Command {
    Command::new("completions")
        .about("Print the completion script of a shell")
        .after_help("bash: adamix completions bash > ~/.local/share/bash-completion/completions/adamix")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell))
                .help("bash, elvish, fish, powershell or zsh"),
        )
}

pub(super) fn man_command() -> Command {
    Command::new("man").about("Print the man page of adamix, or write those of all commands").arg(
        args::path("out", "DIR")
            .help("Write adamix.1 and one page for each command into this directory, which is made if it is missing"),
    )
}

pub(super) fn completions(matches: &ArgMatches, mut command: Command) -> Done {
    let Some(&shell) = matches.get_one::<Shell>("shell") else {
        return Err(Failure::Usage(Error::config("no shell was named")));
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "adamix", &mut script);
    Ok(out::piece(&String::from_utf8_lossy(&script))?)
}

pub(super) fn man(matches: &ArgMatches, command: Command) -> Done {
    match matches.get_one::<PathBuf>("out") {
        Some(dir) => Ok(write_pages(command, dir)?),
        None => Ok(out::piece(&String::from_utf8_lossy(&page(command, "adamix")?))?),
    }
}

/// `adamix.1` and `adamix-COMMAND.1` for each command that help shows.
fn write_pages(mut command: Command, dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|err| Error::io("making the directory", dir, err))?;
    command.build();
    let shown = command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help");
    let pages: Vec<(String, Command)> =
        shown.map(|inner| (format!("adamix-{}", inner.get_name()), inner.clone())).collect();
    for (name, described) in std::iter::once(("adamix".to_owned(), command)).chain(pages) {
        let file = dir.join(format!("{name}.1"));
        fs::write(&file, page(described, &name)?).map_err(|err| Error::io("writing the man page", &file, err))?;
    }
    Ok(())
}

fn page(command: Command, name: &str) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let man = clap_mangen::Man::new(command).title(name);
    man.render(&mut text).map_err(|err| Error::io("formatting the man page", Path::new(name), err))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_man_page_and_completions() {
        let dir = tempfile::tempdir().unwrap();
        let command = super::super::command();
        let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
        assert!(names.len() > 10 && names.iter().any(|name| name == "train"));
        write_pages(command.clone(), dir.path()).unwrap();
        let train = fs::read_to_string(dir.path().join("adamix-train.1")).unwrap();
        assert!(train.contains(r"\-\-learning\-rate") && train.contains(".TH"), "{train}");
        for name in &names {
            assert!(dir.path().join(format!("adamix-{name}.1")).is_file(), "{name}");
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command.clone(), "adamix", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(names.iter().all(|name| script.contains(name.as_str())), "{shell}");
            assert!(script.contains("learning-rate"), "{shell}");
        }
    }
}
