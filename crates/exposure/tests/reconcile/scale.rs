//! Many at once.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::api::ListParams;
use tidegate_testkit::eventually_async;

use crate::common::{World, open, secured};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_apis_at_once_are_all_served() {
    let world = World::start().await;
    let began = tokio::time::Instant::now();
    stream::iter(0..1_000_u32)
        .for_each_concurrent(32, |number| {
            let (service, host) = (format!("s-{number}"), format!("h-{number}"));
            let spec = if number % 2 == 0 { open(&service, &host) } else { secured(&service, &host) };
            let world = &world;
            async move {
                world.create(&format!("api-{number}"), &spec).await;
            }
        })
        .await;
    let written = began.elapsed();
    eventually_async(Duration::from_mins(1), "a thousand Apis with code 2", async || {
        let apis = world.apis().list(&ListParams::default()).await.unwrap();
        let done = apis.iter().filter(|api| {
            api.status.as_ref().is_some_and(|status| {
                status.validation_status == Some(2)
                    && status.virtual_service.as_ref().is_some_and(|block| block.code == 2)
            })
        });
        (done.count() == 1_000).then_some(())
    })
    .await;
    println!("written after {written:?}, all code 2 after {:?}", began.elapsed());
    world.stop().await;
}
