//! `networkmesh check`.

mod files;
mod report;
mod together;

use std::io::Write;
use std::path::{Path, PathBuf};

use model::{Document, DomainId, FieldErrors, Object, Problem, read_manifests};

use super::{CommandError, Verdict};
use crate::output::{self, DataFormat};
use files::manifest_files;
use report::{Finding, Report};

/// Check manifests, without a running mesh
///
/// Reads files and folders as `run` would, and names everything that is wrong: file, object, field and remedy. It
/// also looks at all of them together, for names given twice and for keys that no manifest gives. The exit code is 1
/// if anything is wrong; warnings alone leave it 0.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  networkmesh check manifests && git push")]
pub(super) struct Args {
    /// Files, and folders whose .yaml, .yml and .json files are checked
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The domain of the manifests that name no namespace
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    /// Print the findings to standard output in this form, instead of as text to standard error
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<DataFormat>,
}

pub(super) fn execute(args: &Args, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    let report = check(&args.paths, args.domain.as_ref().map_or("", DomainId::as_str))?;
    match args.output {
        Some(format) => format.write(out, &report)?,
        None => {
            report.errors.iter().for_each(output::print_error);
            report.warnings.iter().for_each(output::print_warning);
            output::print_note(&report.summary());
        }
    }
    Ok(if report.errors.is_empty() { Verdict::Fine } else { Verdict::NotWell })
}

fn check(paths: &[PathBuf], namespace: &str) -> Result<Report, CommandError> {
    let mut report = Report::default();
    let mut objects = Vec::new();
    for path in paths {
        let files = manifest_files(path).map_err(|error| {
            CommandError::file(path, &error, "name manifests or folders that this user can read")
        })?;
        if files.is_empty() {
            let problem = Problem::new("holds no manifests", "manifests end with .yaml, .yml or .json");
            report.warnings.push(Finding::of_file(path, problem));
        }
        for file in files {
            objects.extend(
                check_file(&file, namespace, &mut report).into_iter().map(|object| (file.clone(), object)),
            );
        }
    }
    report.errors.extend(together::duplicates(&objects));
    report.errors.extend(together::missing_keys(&objects));
    report.objects = objects.len();
    Ok(report)
}

/// Checks one file by itself. Answers the objects in it that can be read.
fn check_file(file: &Path, namespace: &str, report: &mut Report) -> Vec<Object> {
    report.files += 1;
    let documents = std::fs::read_to_string(file)
        .map_err(|error| Problem::new(error.to_string(), "make it a text file that this user can read"))
        .and_then(|text| {
            read_manifests(&text, namespace)
                .map_err(|error| Problem::new(error.to_string(), "until then, nothing in this file is used"))
        });
    let documents = match documents {
        Ok(documents) => documents,
        Err(problem) => {
            report.errors.push(Finding::of_file(file, problem));
            return Vec::new();
        }
    };
    let mut objects = Vec::new();
    for document in documents {
        match document {
            Document::Read { object, unknown_fields } => {
                let name = object.reference().to_string();
                report.errors.extend(findings(file, &name, &object.check().err().unwrap_or_default()));
                report.warnings.extend(unknown_fields.into_iter().map(|field| {
                    let problem = Problem::new("is unknown and ignored", "check its spelling and its place");
                    Finding::of_field(file, &name, field, problem)
                }));
                objects.push(object);
            }
            Document::Ignored { api_version, kind } => {
                let problem = format!("{kind} of {api_version} is nothing that the mesh reads");
                let remedy = "check the spelling of kind and apiVersion, or move it elsewhere";
                report.warnings.push(Finding::of_file(file, Problem::new(problem, remedy)));
            }
            Document::Broken { object, errors } => report.errors.extend(findings(file, &object, &errors)),
        }
    }
    objects
}

fn findings(file: &Path, object: &str, errors: &FieldErrors) -> Vec<Finding> {
    let finding = |error: &model::FieldError| {
        let problem = Problem::new(&error.problem, &error.remedy);
        Finding::of_field(file, object, error.path.clone(), problem)
    };
    errors.iter().map(finding).collect()
}
