//! Access logs, with Kuscia's columns, and that by which the mesh learns of the use of tokens.

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog as AccessLogger, AccessLogFilter, LogTypeFilter, access_log::ConfigType,
    access_log_filter::FilterSpecifier,
};
use envoy_types::pb::envoy::data::accesslog::v3::AccessLogType;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::{StdoutAccessLog, stdout_access_log};

use crate::gateway::Side;
use crate::message::{any, text_format};
use crate::proof;
use crate::settings::AccessLog;

/// Client, time, source, service, request, trace, outcome, sizes, milliseconds in all. The two columns at the end are
/// those of request and response bodies, which are never logged here.
const EXTERNAL: &str = concat!(
    "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% - [%START_TIME(%d/%b/%Y:%H:%M:%S %z)%] ",
    "%REQ(Kuscia-Source)% %REQ(Kuscia-Host?:authority)% ",
    "\"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%REQ(x-b3-traceid)% %REQ(x-b3-spanid)% %RESPONSE_CODE% %RESPONSE_FLAGS% %REQ(content-length)% ",
    "%UPSTREAM_WIRE_BYTES_RECEIVED% %DURATION% - -\n",
);

/// The same, and after the milliseconds in all those until the request, the response's begin and its end.
const INTERNAL: &str = concat!(
    "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% - [%START_TIME(%d/%b/%Y:%H:%M:%S %z)%] ",
    "%REQ(Kuscia-Source)% %REQ(Kuscia-Host?:authority)% ",
    "\"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%REQ(x-b3-traceid)% %REQ(x-b3-spanid)% %RESPONSE_CODE% %RESPONSE_FLAGS% %REQ(content-length)% ",
    "%UPSTREAM_WIRE_BYTES_RECEIVED% %DURATION% %REQUEST_DURATION% %RESPONSE_DURATION% ",
    "%RESPONSE_TX_DURATION% - -\n",
);

pub(crate) fn access_log(side: Side, target: &AccessLog) -> Vec<AccessLogger> {
    let proofs = match side {
        Side::Internal | Side::Transit => None,
        Side::External => Some(proof::access_log()),
    };
    for_people(side, target).into_iter().chain(proofs).collect()
}

/// A line for each request, at its end.
fn for_people(side: Side, target: &AccessLog) -> Option<AccessLogger> {
    let format = match side {
        Side::Internal | Side::Transit => INTERNAL,
        Side::External => EXTERNAL,
    };
    let format = text_format(format.to_owned());
    let (name, config) = match target {
        AccessLog::Off => return None,
        AccessLog::Stdout => {
            let format = Some(stdout_access_log::AccessLogFormat::LogFormat(format));
            ("envoy.access_loggers.stdout", any(&StdoutAccessLog { access_log_format: format }))
        }
        AccessLog::Directory(folder) => {
            let file = folder.join(format!("{}.log", side.name()));
            let file = FileAccessLog {
                path: file.to_string_lossy().into_owned(),
                access_log_format: Some(file_access_log::AccessLogFormat::LogFormat(format)),
            };
            ("envoy.access_loggers.file", any(&file))
        }
    };
    let at_the_end = LogTypeFilter { types: vec![AccessLogType::DownstreamEnd.into()], exclude: false };
    Some(AccessLogger {
        name: name.to_owned(),
        filter: Some(AccessLogFilter { filter_specifier: Some(FilterSpecifier::LogTypeFilter(at_the_end)) }),
        config_type: Some(ConfigType::TypedConfig(config)),
    })
}
