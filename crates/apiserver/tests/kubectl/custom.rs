//! Commands on definitions and custom resources.

use serde_json::json;

use crate::support::with_every_kubectl;

const DEFINITION: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.example.com
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wg], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What the widget should be.
            properties:
              size: {type: integer, maximum: 10, description: How big it is.}
              replicas: {type: integer}
          status:
            type: object
            properties:
              replicas: {type: integer}
              ready: {type: boolean}
";

const WIDGET: &str = "\
apiVersion: example.com/v1
kind: Widget
metadata: {name: a}
spec: {size: 3, replicas: 1}
";

#[test]
fn a_definition_is_usable_at_once_and_its_objects_behave() {
    with_every_kubectl(|shell| {
        shell.says(&format!("apply -f {}", shell.file("definition.yaml", DEFINITION)), "created");
        shell.says("wait crd/widgets.example.com --for=condition=Established --timeout=10s", "condition met");
        shell.says("get crd", "widgets.example.com");
        shell.says("describe crd widgets.example.com", "InitialNamesAccepted");
        let file = shell.file("widget.yaml", WIDGET);
        shell.says(&format!("apply -f {file}"), "widget.example.com/a created");
        shell.says(&format!("apply -f {file}"), "unchanged");
        shell.says("get wg", "NAME   SIZE");
        shell.says("get all", "widget.example.com/a");
        shell.says("get widgets.v1.example.com a -o yaml", "  size: 3");
        let changed = shell.file("widget.yaml", &WIDGET.replace("size: 3", "size: 4"));
        let diff = shell.run(&format!("diff --server-side=false -f {changed}"));
        diff.fails_with(1);
        assert!(diff.stdout.contains("+  size: 4"), "{diff}");
        shell.says(&format!("apply -f {changed}"), "configured");
        let wrong = shell.file("wrong.yaml", &WIDGET.replace("size: 3", "sise: 3"));
        shell.fails(&format!("apply -f {wrong}"), "unknown field \"spec.sise\"");
        let large = shell.file("large.yaml", &WIDGET.replace("size: 3", "size: 11"));
        shell.fails(&format!("apply -f {large}"), "spec.size in body should be less than or equal to 10");
        shell.says("scale widget a --replicas=5", "scaled");
        shell.says("patch wg a --type=merge -p {\"spec\":{\"size\":5}}", "patched");
        shell.says("patch wg a --subresource=status --type=merge -p {\"status\":{\"ready\":true}}", "patched");
        shell.says("wait wg/a --for=jsonpath={.status.ready}=true --timeout=10s", "condition met");
        let widget = shell.json("widget a");
        assert_eq!((&widget["spec"], &widget["status"]), (&json!({"size": 5, "replicas": 5}), &json!({"ready": true})));
        shell.says("label wg a x=y", "labeled");
        shell.says("describe wg a", "Size:");
        shell.says("explain widget.spec.size", "How big it is.");
        shell.says("explain widget", "What the widget should be.");
        shell.says("api-resources --api-group=example.com", "wg");
        shell.says(&format!("replace -f {changed}"), "replaced");
        shell.says("delete wg a", "deleted");
        shell.says("delete crd widgets.example.com", "deleted");
        shell.fails("get wg --cache-dir=/dev/null", "the server doesn't have a resource type \"wg\"");
    });
}

#[test]
fn a_custom_watch_ends_with_its_definition() {
    with_every_kubectl(|shell| {
        shell.ok(&format!("create -f {}", shell.file("definition.yaml", DEFINITION)));
        shell.ok("wait crd/widgets.example.com --for=condition=Established --timeout=10s");
        shell.ok_with("create -f -", WIDGET);
        let watch = shell.background("get wg -w --output-watch-events", "watch");
        watch.prints("ADDED");
        shell.ok("delete crd widgets.example.com");
        watch.prints("DELETED");
    });
}
