//! What the program needs to start, to be there, and to do nothing.

use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::common::process::{cpu_with_ended, resident_megabytes};
use crate::common::table::{grouped, print};
use crate::mesh::{Mesh, Start};
use crate::reflect;
use crate::{Failure, Setting};

/// How long memory may settle before it is read.
const SETTLE: Duration = Duration::from_secs(3);

/// In this time every token that is sent has been probed: only then do the statuses say what is.
const PROBES: Duration = Duration::from_secs(20);

/// Measures at each of these numbers of services and routes, which rise.
pub(crate) async fn measure(
    setting: &mut Setting,
    levels: &[(usize, usize)],
    rest: Duration,
) -> Result<(), Failure> {
    let mut mesh = Mesh::new(setting).await?;
    let (mut starts, mut rests) = (Vec::new(), Vec::new());
    for &(services, routes) in levels {
        eprintln!("{services} services, {routes} routes");
        setting.world.grow((services, routes)).await?;
        let size = [grouped(services as u64), grouped(routes as u64)];

        mesh.forget()?;
        starts.push(start(&mut mesh, &size, "first", services, routes).await?);
        mesh.stop_mesh().await?;
        starts.push(start(&mut mesh, &size, "the mesh again", services, routes).await?);
        mesh.stop_envoy().await?;
        mesh.stop_mesh().await?;
        starts.push(start(&mut mesh, &size, "both again", services, routes).await?);

        sleep(PROBES).await;
        mesh.counter().settled().await?;
        let (before, counts) = (cpu_with_ended(mesh.pid()?)?, mesh.counter().counts());
        sleep(rest).await;
        let spent = cpu_with_ended(mesh.pid()?)? - before;
        let bytes = mesh.counter().counts() - counts;
        let megabytes = resident_megabytes(mesh.pid()?)?;
        mesh.stop_envoy().await?;
        mesh.stop_mesh().await?;
        let floor = reflect::measure(setting.server.kubeconfig()).await?;
        let each_second = |bytes: u64| grouped((bytes as f64 / rest.as_secs_f64()) as u64);
        rests.push(
            [
                &size[..],
                &[
                    format!("{megabytes:.1}"),
                    format!("{:.1}", floor.megabytes),
                    seconds(floor.ready),
                    format!("{:.2} %", spent.as_secs_f64() / rest.as_secs_f64() * 100.0),
                    each_second(bytes.to_server),
                    each_second(bytes.from_server),
                ],
            ]
            .concat(),
        );
    }
    let header = [
        "services",
        "routes",
        "start",
        "Envoy serves s",
        "ready s",
        "all ACKed s",
        "all written s",
        "read KB",
        "written KB",
        "peak MB",
    ];
    print("Starts of the program", &header, &starts);
    let header = [
        "services",
        "routes",
        "mesh MB",
        "kube's stores MB",
        "filled after s",
        "CPU at rest",
        "bytes/s to API server",
        "bytes/s from it",
    ];
    print("At rest", &header, &rests);
    Ok(())
}

/// Starts what does not run, and waits until the mesh writes nothing more.
async fn start(
    mesh: &mut Mesh,
    size: &[String; 2],
    title: &str,
    services: usize,
    routes: usize,
) -> Result<Vec<String>, Failure> {
    let (counts, began) = (mesh.counter().counts(), Instant::now());
    let Start { serving, ready, acknowledged } = mesh.start(services, routes).await?;
    let written = mesh.counter().settled().await?.duration_since(began);
    let counts = mesh.counter().counts() - counts;
    sleep(SETTLE).await;
    let cells = [
        title.to_owned(),
        seconds(serving),
        seconds(ready),
        seconds(acknowledged),
        seconds(written),
        grouped(counts.from_server / 1000),
        grouped(counts.to_server / 1000),
        format!("{:.1}", peak_megabytes(mesh.pid()?)?),
    ];
    Ok([&size[..], &cells].concat())
}

fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

/// The most memory that was ever resident, in megabytes (`VmHWM` of proc(5)).
fn peak_megabytes(pid: u32) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1024.0)
}
