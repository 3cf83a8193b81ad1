//! Every kubectl of this machine, from 1.27 on, against the real binary (issue 2, point 5).

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tidegate_testkit::{Kubectl, Output, Platform, eventually, kubectls};

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");
const LIMIT: Duration = Duration::from_secs(30);

/// Runs `story` with each kubectl in a namespace of its own on one platform.
fn with_each(story: impl Fn(&Session<'_>)) {
    let platform = Platform::start(BINARY);
    for kubectl in kubectls() {
        let namespace = format!("with-1-{}", kubectl.minor());
        let session = Session { platform: &platform, kubectl, namespace };
        session.run(&["create", "namespace", &session.namespace]).ok();
        story(&session);
    }
}

struct Session<'a> {
    platform: &'a Platform,
    kubectl: &'a Kubectl,
    namespace: String,
}

impl Session<'_> {
    fn run(&self, arguments: &[&str]) -> Output {
        self.with_input(arguments, "")
    }

    fn with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments);
        let mut output = self.platform.kubectl_of(self.kubectl, &all, input);
        output.line = format!("({}) {}", self.kubectl.version(), output.line);
        output
    }

    #[track_caller]
    fn says(&self, arguments: &[&str], expected: &str) {
        let output = self.run(arguments);
        assert!(output.ok().stdout.contains(expected), "no `{expected}` in {output}");
    }
}

const DEPLOYED: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: shop, tier: web}}
data: {color: blue, size: large}
---
apiVersion: v1
kind: Service
metadata: {name: shop, labels: {app: shop}}
spec: {type: ExternalName, externalName: 127.0.0.1, ports: [{name: http, port: 80, targetPort: 3000}]}
";

#[test]
fn objects_are_created_read_changed_and_deleted() {
    with_each(|kubectl| {
        kubectl.says(&["create", "configmap", "plain", "--from-literal=a=b"], "configmap/plain created");
        kubectl.run(&["create", "configmap", "plain"]).fails_with(1);
        kubectl.says(&["create", "secret", "generic", "hidden", "--from-literal=p=q"], "secret/hidden created");
        kubectl.says(&["get", "secret", "hidden", "-o", "jsonpath={.data.p}"], "cQ==");
        kubectl.says(&["create", "serviceaccount", "robot"], "serviceaccount/robot created");

        let applied = kubectl.with_input(&["apply", "-f", "-"], DEPLOYED);
        assert!(applied.ok().stdout.contains("service/shop created"), "{applied}");
        let again = kubectl.with_input(&["apply", "-f", "-"], DEPLOYED);
        assert!(again.ok().stdout.contains("configmap/settings unchanged"), "{again}");
        let same = kubectl.with_input(&["diff", "--server-side=false", "-f", "-"], DEPLOYED);
        same.ok();
        let changed = DEPLOYED.replace("blue", "green");
        let differs = kubectl.with_input(&["diff", "--server-side=false", "-f", "-"], &changed);
        assert!(differs.fails_with(1).stdout.contains("+  color: green"), "{differs}");
        kubectl.with_input(&["apply", "-f", "-"], &changed).ok();
        kubectl.says(&["get", "configmap", "settings", "-o", "jsonpath={.data.color}"], "green");

        kubectl.says(&["label", "configmap", "settings", "owner=me"], "labeled");
        kubectl.says(&["annotate", "configmap", "settings", "note=n"], "configmap/settings annotate");
        kubectl.says(&["get", "configmap", "-l", "app=shop,owner in (me)", "-o", "name"], "configmap/settings");
        kubectl.says(
            &["get", "configmap", "--field-selector", "metadata.name=settings", "-o", "name"],
            "configmap/settings",
        );
        kubectl.says(&["get", "configmaps", "-A", "--chunk-size=2"], "settings");

        for (kind, patch) in [
            ("merge", r#"{"data":{"patched":"merge"}}"#),
            ("strategic", r#"{"data":{"patched":"strategic"}}"#),
            ("json", r#"[{"op":"replace","path":"/data/patched","value":"json"}]"#),
        ] {
            kubectl.run(&["patch", "configmap", "settings", "--type", kind, "-p", patch]).ok();
            kubectl.says(&["get", "configmap", "settings", "-o", "jsonpath={.data.patched}"], kind);
        }
        let object = kubectl
            .run(&["get", "configmap", "settings", "-o", "yaml"])
            .ok()
            .stdout
            .replace("patched: json", "patched: replaced");
        kubectl.with_input(&["replace", "-f", "-"], &object).ok();
        kubectl.with_input(&["replace", "-f", "-"], &object).fails_with(1);
        kubectl.says(&["get", "configmap", "settings", "-o", "json"], "\"patched\": \"replaced\"");

        kubectl.says(&["describe", "configmap", "settings"], "owner=me");
        kubectl.says(&["describe", "service", "shop"], "ExternalName");
        kubectl.says(&["delete", "configmap", "settings", "--wait"], "deleted");
        kubectl.run(&["get", "configmap", "settings"]).fails_with(1);
        kubectl.says(&["delete", "namespace", &kubectl.namespace], "deleted");
        kubectl.run(&["get", "namespace", &kubectl.namespace]).fails_with(1);
    });
}

#[test]
fn tables_watches_and_waiting_work() {
    with_each(|kubectl| {
        kubectl.with_input(&["apply", "-f", "-"], DEPLOYED).ok();
        kubectl.says(&["get", "configmaps"], "DATA");
        kubectl.says(&["get", "services", "-o", "wide"], "SELECTOR");
        kubectl.says(&["get", "services"], "127.0.0.1");
        kubectl.says(&["get", "services,configmaps", "--show-labels"], "app=shop,tier=web");
        kubectl.says(&["get", "configmap", "settings", "--no-headers"], "settings");

        let watch = kubectl.platform.folder().join(format!("watch-{}", kubectl.kubectl.minor()));
        let mut child = watching(kubectl, &["get", "configmaps", "-w", "-o", "name"], &watch);
        let seen = |name: &str| {
            eventually(LIMIT, "the watch shows the object", || {
                std::fs::read_to_string(&watch).unwrap_or_default().contains(name).then_some(())
            });
        };
        seen("settings");
        kubectl.run(&["create", "configmap", "later"]).ok();
        seen("later");
        child.kill().unwrap();
        child.wait().unwrap();

        kubectl.run(&["wait", "--for=jsonpath={.data.color}=blue", "configmap/settings", "--timeout=10s"]).ok();
        kubectl.run(&["wait", "--for=condition=Established", "crd/apis.gateway.kyma-project.io", "--timeout=10s"]).ok();
        kubectl.run(&["wait", "--for=delete", "configmap/absent", "--timeout=10s"]).ok();
    });
}

fn watching(session: &Session<'_>, arguments: &[&str], output: &Path) -> Child {
    let mut all = vec!["-n", &session.namespace];
    all.extend(arguments);
    let mut command: Command = session.kubectl.command(&session.platform.kubeconfig(), &all);
    let file = std::fs::File::create(output).expect("a file of the test can be written");
    command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null()).spawn().expect("kubectl starts")
}

#[test]
fn the_server_describes_itself() {
    with_each(|kubectl| {
        kubectl.says(&["version"], "Server Version");
        kubectl.says(&["cluster-info"], "is running at");
        kubectl.says(&["api-versions"], "gateway.kyma-project.io/v1alpha2");
        kubectl.says(&["api-resources"], "virtualservices");
        kubectl.says(
            &["api-resources", "--api-group=gateway.kyma-project.io", "-o", "name"],
            "apis.gateway.kyma-project.io",
        );
        kubectl.says(&["explain", "configmap.data"], "DESCRIPTION");
        kubectl.says(
            &["explain", "apis.spec.service.port", "--api-version=gateway.kyma-project.io/v1alpha2"],
            "Port of the Service",
        );
        kubectl.says(&["explain", "apis", "--recursive"], "jwksUri");
        let pods = kubectl.run(&["get", "pods"]);
        assert!(pods.fails_with(1).stderr.contains("the server doesn't have a resource type \"pods\""), "{pods}");
    });
}

#[test]
fn an_editor_changes_an_object() {
    with_each(|kubectl| {
        kubectl.with_input(&["apply", "-f", "-"], DEPLOYED).ok();
        let script = kubectl.platform.folder().join("editor.sh");
        std::fs::write(&script, "#!/bin/sh\nsed -i 's/color: blue/color: red/' \"$1\"\n").unwrap();
        let mut command = kubectl
            .kubectl
            .command(&kubectl.platform.kubeconfig(), &["-n", &kubectl.namespace, "edit", "configmap", "settings"]);
        command.env("KUBE_EDITOR", format!("sh {}", script.display()));
        tidegate_testkit::command::run(&mut command, "").ok();
        kubectl.says(&["get", "configmap", "settings", "-o", "jsonpath={.data.color}"], "red");
    });
}

#[test]
fn invalid_objects_are_refused_with_kubernetes_words() {
    with_each(|kubectl| {
        let api = |spec: &str| {
            format!("apiVersion: gateway.kyma-project.io/v1alpha2\nkind: Api\nmetadata: {{name: a}}\nspec: {spec}\n")
        };
        for (spec, words) in [
            ("{hostname: svc.other.example, service: {name: a, port: 80}}", "spec.hostname"),
            ("{hostname: a.b.localhost, service: {name: a, port: 80}}", "spec.hostname"),
            ("{hostname: abc, service: {name: a}}", "spec.service.port"),
            ("{hostname: abc, service: {name: a, port: 70000}}", "spec.service.port"),
            (
                "{hostname: abc, service: {name: a, port: 80}, authentication: [{type: JWT, jwt: {issuer: i}}]}",
                "jwksUri",
            ),
            (
                "{hostname: abc, service: {name: a, port: 80}, authentication: [{type: OTHER, jwt: {issuer: i, jwksUri: j}}]}",
                "spec.authentication[0].type",
            ),
        ] {
            let refused = kubectl.with_input(&["create", "-f", "-"], &api(spec));
            assert!(refused.fails_with(1).stderr.contains(words), "no `{words}` in {refused}");
        }
        let unknown =
            kubectl.with_input(&["create", "-f", "-"], &api("{hostname: abc, service: {name: a, port: 80, prt: 1}}"));
        assert!(unknown.fails_with(1).stderr.contains("unknown field \"spec.service.prt\""), "{unknown}");
        kubectl.run(&["create", "configmap", "Not_A_Name"]).fails_with(1);
    });
}
