use networkmesh_xds::{Cache, Node, Peer, ResourceType::Cluster, ResourceType::Listener, bind};
use tonic::Code;

use crate::support::{DeltaClient, Result, Server, hello, set, socket};

#[tokio::test]
async fn each_client_sees_its_own_view() -> Result {
    let (address, _folder) = socket()?;
    let (edge, inner) = (Cache::new(), Cache::new());
    let views = {
        let (edge, inner) = (edge.clone(), inner.clone());
        move |node: &Node, peer: &Peer| {
            assert_eq!(*peer, Peer::Process(Some(std::process::id() as i32)));
            match node.id.split_once('-')?.0 {
                "edge" => Some(edge.clone()),
                "inner" => Some(inner.clone()),
                _ => None,
            }
        }
    };
    let server = Server::start_with(bind(&address)?, views, edge.clone());
    set(&edge, Listener, "web", "edge");
    set(&inner, Listener, "web", "inner");

    let mut clients = Vec::new();
    for id in ["edge-1", "inner-1", "edge-2"] {
        let mut client = DeltaClient::open(&address).await?;
        client.send(hello(id)).await?;
        let response = client.receive().await?;
        let body = response.resources[0].resource.as_ref().ok_or("there is a body")?.value.clone();
        assert_eq!(id.split_once('-').map(|(view, _)| view.as_bytes()), Some(body.as_slice()));
        client.ack(&response).await?;
        clients.push(client);
    }
    set(&inner, Listener, "more", "2");
    set(&edge, Listener, "web", "edge again");
    for (client, changed) in clients.iter_mut().zip(["web", "more", "web"]) {
        let names = client.receive().await?.resources.into_iter().map(|resource| resource.name);
        assert_eq!(names.collect::<Vec<_>>(), [changed]);
    }
    set(&edge, Cluster, "unasked", "1");

    let stranger = DeltaClient::open(&address).await?;
    stranger.send(hello("stranger-1")).await?;
    assert_eq!(stranger.end_code().await, Some(Code::PermissionDenied));
    assert_eq!(server.clients.snapshot().len(), 3);
    Ok(())
}
