//! Commands on built-in kinds.

use serde_json::json;

use crate::support::with_every_kubectl;

const MANIFEST: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  labels: {app: demo}
data:
  color: blue
";

#[test]
fn objects_are_created_by_command() {
    with_every_kubectl(|shell| {
        shell.says("create configmap a --from-literal=k=v", "configmap/a created");
        shell.says("create secret generic s --from-literal=password=p", "secret/s created");
        shell.says("create namespace n", "namespace/n created");
        shell.says("create serviceaccount robot", "serviceaccount/robot created");
        shell.says("create service clusterip web --tcp=80:8080", "service/web created");
        shell.says("create service externalname out --external-name=example.com", "service/out created");
        assert_eq!(shell.json("configmap a")["data"], json!({"k": "v"}));
        assert_eq!(shell.json("secret s")["data"], json!({"password": "cA=="}));
        assert_eq!(shell.json("service web")["spec"]["ports"][0]["targetPort"], 8080);
        shell.fails("create configmap a", "configmaps \"a\" already exists");
        shell.fails("create configmap A", "a lowercase RFC 1123 subdomain must consist of");
        shell.fails("create configmap x -n none", "namespaces \"none\" not found");
        shell.says("create configmap dry --dry-run=server", "configmap/dry created (server dry run)");
        shell.fails("get configmap dry", "configmaps \"dry\" not found");
    });
}

#[test]
fn objects_are_printed_in_every_form() {
    with_every_kubectl(|shell| {
        shell.ok_with("create -f -", MANIFEST);
        shell.says("get configmap settings", "NAME       DATA   AGE");
        shell.says("get cm settings -o wide", "settings   1");
        shell.says("get cm settings -o yaml", "  color: blue");
        shell.says("get cm settings -o name", "configmap/settings");
        assert_eq!(shell.ok("get cm settings -o jsonpath={.data.color}"), "blue");
        assert_eq!(shell.ok("get cm settings -o go-template={{.data.color}}"), "blue");
        shell.says("get cm settings -o custom-columns=N:.metadata.name", "settings");
        shell.says("get cm -A", "kube-system");
        shell.says("get cm -l app=demo --show-labels", "app=demo");
        shell.says("get cm --field-selector=metadata.name=settings -o name", "configmap/settings");
        shell.says("get cm -A --chunk-size=1 -o name", "configmap/settings");
        shell.says("get cm --sort-by=.metadata.name -o name", "configmap/settings");
        shell.says("get ns", "Active");
        shell.says("get all", "kubernetes   ClusterIP");
        shell.says("get events -A", "");
        shell.says("get --raw /readyz", "ok");
        shell.says("get --raw /api/v1/namespaces/default", "\"kind\":\"Namespace\"");
        shell.says("get cm settings --subresource=status --ignore-not-found -o name", "");
        shell.fails("get cm none", "Error from server (NotFound): configmaps \"none\" not found");
        shell.fails("get pods", "error: the server doesn't have a resource type \"pods\"");
    });
}

#[test]
fn a_watch_prints_changes_as_they_happen() {
    with_every_kubectl(|shell| {
        shell.ok_with("create -f -", MANIFEST);
        let watch = shell.background("get cm -w -l app=demo", "watch");
        watch.prints("settings   1");
        shell.ok("patch cm settings -p {\"data\":{\"size\":\"2\"}}");
        watch.prints("settings   2");
        let names = shell.background("get cm --watch-only -o name", "watch-only");
        crate::support::eventually("the watch", || {
            shell.ok("create configmap late");
            let seen = std::fs::read_to_string(shell.folder().join("watch-only")).unwrap().contains("configmap/late");
            shell.ok("delete configmap late");
            seen
        });
        drop(names);
    });
}

#[test]
fn apply_creates_changes_and_leaves_alone() {
    with_every_kubectl(|shell| {
        let file = shell.file("settings.yaml", MANIFEST);
        shell.says(&format!("apply -f {file}"), "configmap/settings created");
        shell.says(&format!("apply -f {file}"), "configmap/settings unchanged");
        let changed = shell.file("settings.yaml", &MANIFEST.replace("color: blue", "shade: dark"));
        let diff = shell.run(&format!("diff --server-side=false -f {changed}"));
        diff.fails_with(1);
        assert!(diff.stdout.contains("+  shade: dark") && diff.stdout.contains("-  color: blue"), "{diff}");
        shell.says(&format!("apply -f {changed}"), "configmap/settings configured");
        assert_eq!(shell.json("cm settings")["data"], json!({"shade": "dark"}));
        assert_eq!(shell.run(&format!("diff --server-side=false -f {changed}")).code, 0);
        let wrong = shell.file("wrong.yaml", &MANIFEST.replace("\ndata:", "\ndta:"));
        shell.fails(&format!("apply -f {wrong}"), "unknown field \"dta\"");
        shell.says(&format!("apply --validate=false -f {wrong}"), "configmap/settings configured");
        shell.says(&format!("delete -f {file}"), "configmap \"settings\" deleted");
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n  - {name: a, port: 80}\n  - {name: b, port: 81}\n";
        let file = shell.file("service.yaml", service);
        shell.says(&format!("apply -f {file}"), "service/web created");
        let file =
            shell.file("service.yaml", &service.replace("  - {name: a, port: 80}\n", "  - {name: c, port: 82}\n"));
        shell.says(&format!("apply -f {file}"), "service/web configured");
        let ports = shell.ok("get service web -o jsonpath={.spec.ports[*].port}");
        let mut ports: Vec<&str> = ports.split(' ').collect();
        ports.sort_unstable();
        assert_eq!(ports, ["81", "82"]);
    });
}

#[test]
fn objects_are_replaced_patched_edited_labeled_and_annotated() {
    with_every_kubectl(|shell| {
        let file = shell.file("settings.yaml", MANIFEST);
        shell.ok(&format!("create -f {file}"));
        let replaced = shell.file("settings.yaml", &MANIFEST.replace("blue", "red"));
        shell.says(&format!("replace -f {replaced}"), "configmap/settings replaced");
        shell.says(&format!("replace --force -f {replaced}"), "configmap/settings replaced");
        shell.says("patch cm settings -p {\"data\":{\"a\":\"1\"}}", "patched");
        shell.says("patch cm settings --type=merge -p {\"data\":{\"b\":\"2\"}}", "patched");
        shell.says(
            "patch cm settings --type=json -p [{\"op\":\"add\",\"path\":\"/data/c\",\"value\":\"3\"}]",
            "patched",
        );
        shell.says("patch cm settings -p {\"data\":{\"c\":\"3\"}}", "patched (no change)");
        assert_eq!(shell.json("cm settings")["data"], json!({"color": "red", "a": "1", "b": "2", "c": "3"}));
        shell.says("label cm settings tier=front", "labeled");
        shell.fails("label cm settings tier=back", "already has a value");
        shell.says("label cm settings tier=back --overwrite", "labeled");
        shell.says("label cm settings tier-", "unlabeled");
        shell.says("annotate cm settings note=hello", "annotate");
        assert_eq!(shell.json("cm settings")["metadata"]["annotations"]["note"], "hello");
        let editor = shell.file("editor.sh", "#!/bin/sh\nsed -i 's/color: red/color: green/' \"$1\"\n");
        let mut command = shell.kubectl.command(&shell.kubeconfig, &["edit", "cm", "settings"]);
        command.env("KUBE_EDITOR", format!("sh {editor}"));
        let edited = tidegate_testkit::command::run(&mut command, "");
        edited.ok();
        assert!(edited.stdout.contains("configmap/settings edited"), "{edited}");
        assert_eq!(shell.json("cm settings")["data"]["color"], "green");
    });
}

#[test]
fn objects_are_described_awaited_and_deleted() {
    with_every_kubectl(|shell| {
        shell.ok_with("create -f -", MANIFEST);
        shell.says("describe cm settings", "color:");
        shell.says("describe ns default", "Status:       Active");
        shell.says("describe service kubernetes", "https  443/TCP");
        shell.says("wait cm/settings --for=jsonpath={.data.color}=blue --timeout=10s", "condition met");
        shell.says("delete cm settings", "configmap \"settings\" deleted");
        shell.fails("delete cm settings", "configmaps \"settings\" not found");
        shell.ok("create configmap held");
        shell.ok("patch cm held --type=merge -p {\"metadata\":{\"finalizers\":[\"e.com/h\"]}}");
        let deleting = shell.background("delete cm held", "delete");
        crate::support::eventually("deleting", || {
            !shell.ok("get cm held -o jsonpath={.metadata.deletionTimestamp}").is_empty()
        });
        shell.ok("patch cm held --type=merge -p {\"metadata\":{\"finalizers\":null}}");
        shell.says("wait cm/held --for=delete --timeout=10s", "");
        drop(deleting);
        shell.ok("create namespace n");
        shell.ok("create configmap a -n n");
        shell.says("delete ns n", "namespace \"n\" deleted");
        shell.fails("get ns n", "namespaces \"n\" not found");
        shell.ok("create configmap one");
        shell.ok("create configmap two");
        shell.says("delete cm one two", "configmap \"two\" deleted");
        shell.says("delete secret --all", "No resources found");
        shell.fails("delete ns default", "this namespace may not be deleted");
    });
}

#[test]
fn the_path_of_a_cluster_is_a_server_of_its_own() {
    with_every_kubectl(|shell| {
        let server = shell.ok("config view -o jsonpath={.clusters[0].cluster.server}");
        let file = shell.file("settings.yaml", MANIFEST);
        shell.says(&format!("--server={server}/clusters/root apply -f {file}"), "configmap/settings created");
        shell.says(&format!("--server={server}/clusters/root explain configmap.data"), "FIELD: data");
        shell.says("get cm settings -o name", "configmap/settings");
        shell.run(&format!("--server={server}/clusters/other get cm")).fails_with(1);
    });
}

#[test]
fn the_server_explains_itself() {
    with_every_kubectl(|shell| {
        shell.says("api-resources", "configmaps");
        shell.says("api-resources -o wide --api-group=discovery.k8s.io", "endpointslices");
        shell.says("api-versions", "coordination.k8s.io/v1");
        shell.says("version", "v1.36.2+tidegate");
        shell.says("cluster-info", "Kubernetes control plane");
        shell.says("explain configmap", "KIND:       ConfigMap");
        shell.says("explain service.spec.ports", "targetPort");
        shell.says("explain ns --recursive", "finalizers");
        shell.ok("config view --minify");
    });
}
