"""What holds for every stack: who depends on whom, what each pod may do, what no input shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from infra.components import fleet_schema, redis, server
from infra.components.credentials import BROKER_MARK, password_mark
from infra.live.first_look import FirstLook
from infra.recording import Hidden, Recorded, record
from scaler import contract
from tests.infra.conftest import PASSWORD, settings

LIFECYCLE = "pulumi-python:dynamic/celeryfleet:FleetLifecycle"


def of_kind(program: Iterable[Recorded], kind: str) -> list[Recorded]:
    return [resource for resource in program if resource.inputs.get("kind") == kind]


def named(program: Iterable[Recorded], name: str) -> Recorded:
    return next(resource for resource in program if resource.name == name)


def pods(program: Iterable[Recorded]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for deployment in of_kind(program, "Deployment"):
        yield deployment.name, deployment.inputs["spec"]["template"]["spec"]


def containers(program: Iterable[Recorded]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, pod in pods(program):
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            yield name, container


def shown(value: Any) -> Any:
    """The value as state, diffs and logs show it."""
    if isinstance(value, Hidden):
        return "[secret]"
    if isinstance(value, Mapping):
        return {key: shown(entry) for key, entry in value.items()}
    return [shown(entry) for entry in value] if isinstance(value, list) else value


def before(program: Iterable[Recorded], resource: Recorded) -> set[str]:
    """URNs of all that is there before a resource, and is still there when it goes.

    A child comes after its parent's dependencies: Pulumi registers it once the parent is registered.
    """
    by_urn = {known.urn: known for known in program}
    found: set[str] = set()
    todo = [resource.urn]
    while todo:
        known = by_urn.get(todo.pop())
        if known is None:
            continue
        for urn in {*known.depends_on, known.parent} - found:
            found.add(urn)
            todo.append(urn)
    return found


def test_no_input_shows_the_password(program: list[Recorded]) -> None:
    """It is in Secrets, wrapped as secret; whatever needs it names the Secret."""
    for resource in program:
        text = json.dumps(shown(resource.inputs))

        assert PASSWORD not in text, resource.name

    secrets = of_kind(program, "Secret")
    assert all(isinstance(secret.inputs["stringData"], Hidden) for secret in secrets)


def test_the_broker_secret_opens_the_broker(program: list[Recorded]) -> None:
    secret = named(program, "broker-secret").inputs
    namespace = secret["metadata"]["namespace"]

    assert secret["metadata"]["name"] == "celery-broker"
    assert secret["stringData"].value == {
        "password": PASSWORD,
        "url": f"redis://:{PASSWORD}@redis.{namespace}.svc:6379/0",
        "scaler-password": PASSWORD,
        "scaler-url": f"redis://celery-scaler:{PASSWORD}@redis.{namespace}.svc:6379/0",
        "mark": password_mark(PASSWORD, salt=namespace),
    }


def test_a_password_of_any_letters_makes_a_url_that_means_it() -> None:
    url = redis.url(settings("local"), "a/b:c@d%e?f#g")

    assert url == "redis://:a%2Fb%3Ac%40d%25e%3Ff%23g@redis.celery-fleet-local.svc:6379/0"


def test_every_container_is_limited(program: list[Recorded]) -> None:
    for name, container in containers(program):
        assert container["resources"]["limits"]["memory"], name
        assert container["resources"]["limits"]["cpu"], name
        assert container["resources"]["requests"], name


def test_every_pod_meets_the_restricted_standard(program: list[Recorded]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and a numeric user."""
    for name, pod in pods(program):
        security = pod["securityContext"]

        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "configMap", "secret", "projected", "persistentVolumeClaim"}, name
    for name, container in containers(program):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }, name


def test_the_namespace_enforces_it(program: list[Recorded]) -> None:
    labels = named(program, "namespace").inputs["metadata"]["labels"]

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_only_the_scaler_has_a_token(program: list[Recorded]) -> None:
    mounted = [name for name, pod in pods(program) if pod["automountServiceAccountToken"]]

    assert mounted == ["scaler-deployment"]


def test_the_role_has_the_verbs_of_the_calls(program: list[Recorded]) -> None:
    """`scaler.contract` lists them beside the calls; the scaler's own tests hold it to them."""
    role = named(program, "scaler-role").inputs
    binding = named(program, "scaler-role-binding").inputs
    namespace = role["metadata"]["namespace"]

    assert role["rules"] == [dict(rule) for rule in contract.RBAC_RULES]
    assert not of_kind(program, "ClusterRole")
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": contract.SCALER_NAME, "namespace": namespace}
    ]


def test_the_broker_outlives_whatever_uses_it(program: list[Recorded]) -> None:
    broker = {"redis-deployment", "redis-service", "broker-secret"}
    for resource in of_kind(program, "Deployment"):
        if resource.name == "redis-deployment":
            continue
        names = {urn.split("::")[-1] for urn in before(program, resource)}

        assert broker <= names, resource.name


def test_the_scaler_goes_before_what_it_scales(program: list[Recorded]) -> None:
    names = {urn.split("::")[-1] for urn in before(program, named(program, "scaler-deployment"))}

    workers = {resource.name for resource in of_kind(program, "Deployment") if "workers-" in resource.name}
    objects = {resource.name for resource in of_kind(program, "Celery")}
    assert workers | objects <= names


def test_the_lifecycle_depends_on_everything_itself(program: list[Recorded]) -> None:
    """Pulumi removes in parallel what nothing depends on (pulumi/pulumi#1963): it must go before all else."""
    lifecycle = named(program, "lifecycle")
    rest = {
        resource.urn
        for resource in program
        if resource is not lifecycle and not resource.type.startswith("celery:infra:")
    }

    assert lifecycle.depends_on == rest


def test_the_lifecycle_waits_for_every_deployment_and_pool(program: list[Recorded]) -> None:
    inputs = named(program, "lifecycle").inputs
    deployments = {resource.inputs["metadata"]["name"] for resource in of_kind(program, "Deployment")}
    objects = {resource.inputs["metadata"]["name"] for resource in of_kind(program, "Celery")}

    assert set(inputs["deployments"]) == deployments
    assert set(inputs["celeries"]) == objects


def test_the_lifecycle_knows_what_a_change_or_a_destroy_could_leave_behind(
    stack: str, program: list[Recorded]
) -> None:
    """Without a volume, whatever starts Redis anew empties it."""
    inputs = named(program, "lifecycle").inputs
    volatile = {"imagePullPolicy", "imagePullSecrets", "redisImage", "redisResources", "redisTemplate"}

    assert inputs["producers"] == (["sample-app"] if stack == "local" else [])
    assert inputs["queues"].keys() == inputs["celeries"].keys()
    assert inputs["broker"].keys() == {
        "broker",
        "existingSecret",
        "redisPersistence",
        "brokerTransportOptions",
        *(volatile if stack == "local" else ()),
    }
    assert PASSWORD not in str(inputs)


def broker_of(password: str = PASSWORD, **overrides: str) -> dict[str, str]:
    """What a stack without a volume declares about its Redis."""
    declared = record(settings("local", overrides), password=password)
    found: dict[str, str] = named(declared, "lifecycle").inputs["broker"]
    return found


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ({"maxReplicas": "9", "celeryApp": "other", "logLevel": "debug"}, set()),
        ({"imagePullPolicy": "Always"}, {"imagePullPolicy", "redisTemplate"}),
        ({"imagePullSecrets": '["mine"]'}, {"imagePullSecrets", "redisTemplate"}),
        ({"redisImage": "redis:9"}, {"redisImage", "redisTemplate"}),
        ({"existingSecret": "mine", "createNamespace": "false"}, {"existingSecret", "redisTemplate"}),
        ({"passwordOverlapSeconds": "7200", "eventExchange": "mine"}, set()),
    ],
)
def test_whatever_makes_a_new_redis_changes_what_is_kept_of_it(
    overrides: dict[str, str], changed: set[str]
) -> None:
    before, after = broker_of(), broker_of(**overrides)

    assert {key for key in before | after if before.get(key) != after.get(key)} == changed


def test_a_pod_of_redis_that_a_newer_program_makes_otherwise_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = broker_of()
    monkeypatch.setattr(server, "BOOT_SECONDS", 120)

    after = broker_of()

    assert {key for key in before if before[key] != after[key]} == {"redisTemplate"}


def test_another_password_leaves_redis_as_it_is() -> None:
    """It is taken up while Redis runs."""
    assert broker_of() == broker_of(password="another")


def test_the_scaler_owns_the_workers_replicas(program: list[Recorded]) -> None:
    ignoring = {resource.name for resource in program if resource.ignore_changes == ("spec.replicas",)}

    assert ignoring == {
        resource.name
        for resource in of_kind(program, "Deployment")
        if contract.POOL_LABEL in resource.inputs["metadata"]["labels"]
    }


def test_workers_have_no_probe(program: list[Recorded]) -> None:
    """A ReplicaSet removes pods that are not ready first, so a probe that flaps would choose the victims."""
    for name, container in containers(program):
        if name.startswith("workers-"):
            assert not {"readinessProbe", "livenessProbe", "startupProbe"} & set(container), name


def test_waiting_for_pods_is_left_to_the_lifecycle_on_the_way_up_only(program: list[Recorded]) -> None:
    """`skipAwait` would end the wait for removal, too: the broker would go while workers still finish."""
    for kind in ("Deployment", "Service", "PersistentVolumeClaim"):
        for resource in of_kind(program, kind):
            annotations = resource.inputs["metadata"]["annotations"]

            assert annotations == {"pulumi.com/waitFor": "jsonpath={.metadata.uid}"}, resource.name


def test_pulumi_gives_workers_their_grace_period_to_leave(program: list[Recorded]) -> None:
    """Its own limit of ten minutes is shorter than a long task."""
    for resource in of_kind(program, "Deployment"):
        grace = resource.inputs["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        if resource.ignore_changes:
            assert resource.delete_timeout == f"{grace + 120}s"
        else:
            assert grace < 600, resource.name


def test_a_roll_out_leaves_no_hole_and_stops_at_workers_that_crash(program: list[Recorded]) -> None:
    for resource in of_kind(program, "Deployment"):
        if contract.POOL_LABEL not in resource.inputs["metadata"]["labels"]:
            continue
        spec = resource.inputs["spec"]

        assert spec["strategy"] == {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0},
        }
        # Longer than a worker without a probe looks well although its app cannot be imported.
        assert spec["minReadySeconds"] == 10
        grace = spec["template"]["spec"]["terminationGracePeriodSeconds"]
        assert spec["progressDeadlineSeconds"] == grace + 600


def test_every_pool_has_a_budget_for_evictions(program: list[Recorded]) -> None:
    """One that picks just the pool's pods, and never forbids the last eviction."""
    pools = {
        resource.inputs["metadata"]["name"]: resource.inputs["spec"]["selector"]
        for resource in of_kind(program, "Deployment")
        if contract.POOL_LABEL in resource.inputs["metadata"]["labels"]
    }
    budgets = {
        resource.inputs["metadata"]["name"]: resource.inputs["spec"]
        for resource in of_kind(program, "PodDisruptionBudget")
    }

    assert budgets == {
        name: {
            "maxUnavailable": "10%",
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": selector,
        }
        for name, selector in pools.items()
    }


def test_the_definition_stays_when_the_last_stack_goes(program: list[Recorded]) -> None:
    (definition,) = of_kind(program, "CustomResourceDefinition")

    assert definition.type == "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinitionPatch"
    assert definition.retain_on_delete
    assert [resource.name for resource in program if resource.retain_on_delete] == ["fleet-crd"]


def test_the_objects_say_what_the_workers_run(program: list[Recorded]) -> None:
    """What the scaler reads and what Kubernetes runs come from the same settings."""
    workers = {
        resource.inputs["metadata"]["name"]: resource.inputs["spec"]
        for resource in of_kind(program, "Deployment")
    }
    for resource in of_kind(program, "Celery"):
        spec = resource.inputs["spec"]
        policy = contract.policy_of(spec)
        deployment = workers[policy.deployment]
        command = deployment["template"]["spec"]["containers"][0]["command"]

        assert command[command.index("-Q") + 1] == ",".join(policy.queues)
        assert command[command.index("-c") + 1] == str(policy.concurrency)
        assert policy.drain_seconds >= deployment["template"]["spec"]["terminationGracePeriodSeconds"]
        assert deployment["replicas"] == policy.min_replicas == spec["workerSpec"]["numOfWorkers"]


@pytest.mark.parametrize(
    ("overrides", "paths"),
    [
        pytest.param({}, {"default": ""}, id="the flat keys"),
        pytest.param({"pools": '{"default": {}}'}, {"default": "pools.default"}, id="a pool named default"),
        pytest.param(
            {"pools": '{"mail_eu": {"queues": ["a"]}, "a.b": {"queues": ["b"]}}'},
            {"mail-eu-208edf": "pools.mail_eu", "a-b-2e7336": 'pools["a.b"]'},
            id="names that are no labels",
        ),
    ],
)
def test_the_objects_say_where_their_settings_are(overrides: dict[str, str], paths: dict[str, str]) -> None:
    """The scaler's page shows the commands that change them."""
    found = {
        resource.inputs["metadata"]["name"]: resource.inputs["metadata"]["annotations"]
        for resource in of_kind(record(settings("local", overrides)), "Celery")
    }

    assert found == {name: {"celeryproject.org/settings": path} for name, path in paths.items()}


def test_the_redis_password_is_no_argument(program: list[Recorded]) -> None:
    """Arguments show in every process list of the node."""
    pod = dict(pods(program))["redis-deployment"]
    container = pod["containers"][0]

    assert container["command"][-2:] == ["--maxmemory-policy", "noeviction"]
    assert not [variable for variable in container["env"] if "valueFrom" in variable]


def test_redis_keeps_its_data_everywhere_but_local(stack: str, program: list[Recorded]) -> None:
    claims = of_kind(program, "PersistentVolumeClaim")
    command = dict(pods(program))["redis-deployment"]["containers"][0]["command"]

    assert len(claims) == (0 if stack == "local" else 1)
    assert command[command.index("--appendonly") + 1] == ("no" if stack == "local" else "yes")


def test_more_replicas_change_the_object_and_the_wait_and_nothing_else() -> None:
    """No pod restarts: no Deployment's input differs."""
    less = {resource.urn: resource for resource in record(settings("local"), password=PASSWORD)}
    more = {
        resource.urn: resource
        for resource in record(settings("local", {"maxReplicas": "30"}), password=PASSWORD)
    }

    changed = {urn for urn in less if less[urn].inputs != more[urn].inputs}
    assert less.keys() == more.keys()
    assert {urn.split("::")[-1] for urn in changed} == {"fleet-default", "lifecycle"}
    lifecycles = [next(r for r in found.values() if r.type == LIFECYCLE).inputs for found in (less, more)]
    assert {key for key in lifecycles[0] if lifecycles[0][key] != lifecycles[1][key]} == {"celeries"}


def test_shadow_is_said_to_the_scaler_and_to_the_preview_and_changes_no_pod() -> None:
    """The object has the mode, the lifecycle the Deployments beside which another autoscaler may be."""
    pools = '{"mail": {"mode": "shadow", "queues": ["mail"]}, "sums": {"queues": ["sums"]}}'
    found = list(record(settings("local", {"pools": pools}), password=PASSWORD))
    modes = {
        resource.inputs["metadata"]["name"]: resource.inputs["spec"]["scaleTargetRef"][0]["mode"]
        for resource in found
        if resource.type == f"kubernetes:{contract.API_VERSION}:{contract.KIND}"
    }

    assert modes == {"mail": "shadow", "sums": "active"}
    assert named(found, "lifecycle").inputs["shadow"] == ["mail-celery-worker"]


def test_a_new_password_restarts_the_pods_that_read_it_when_they_start_and_no_other() -> None:
    """Redis and the scaler read files: the one takes a new password up while it runs, so does the other."""
    old, new = (
        {
            resource.name: resource.inputs["spec"]["template"]
            for resource in of_kind(record(settings("local"), password=password), "Deployment")
        }
        for password in (PASSWORD, PASSWORD + "2")
    )

    assert {name for name in old if old[name] != new[name]} == {
        "workers-default-deployment",
        "flower-deployment",
        "sample-app-deployment",
    }
    flower = new["flower-deployment"]["metadata"]["annotations"]
    assert flower == {BROKER_MARK: password_mark(PASSWORD + "2", salt="celery-fleet-local")}


def test_the_password_mark_is_too_short_to_guess_by() -> None:
    assert len(password_mark(PASSWORD, salt="ns")) == 8
    assert password_mark(PASSWORD, salt="ns") != password_mark(PASSWORD, salt="other")


@pytest.mark.parametrize("older", [None, 1, fleet_schema.REVISION])
def test_a_definition_that_is_not_newer_is_brought_up_to_date(older: int | None) -> None:
    program = record(settings("local"), FirstLook(schema_revision=older))

    (definition,) = of_kind(program, "CustomResourceDefinition")
    annotations = definition.inputs["metadata"]["annotations"]
    assert annotations[fleet_schema.REVISION_ANNOTATION] == str(fleet_schema.REVISION)
    assert annotations["pulumi.com/patchFieldManager"] == "celery-fleet-crd"


def test_a_newer_definition_is_left_alone() -> None:
    """The API server would prune its newer fields out of the other stacks' objects."""
    program = record(settings("local"), FirstLook(schema_revision=fleet_schema.REVISION + 1))

    assert not of_kind(program, "CustomResourceDefinition")
    assert named(program, "lifecycle").inputs["schema_revision"] == fleet_schema.REVISION + 1


def test_the_cluster_is_the_one_that_was_looked_at() -> None:
    """A renamed context must not make the provider replace every object."""
    overrides = {"kubernetes:context": "here"}
    program = record(settings("local", overrides), FirstLook(cluster_uid="the-uid"))
    provider = named(program, "cluster")

    assert provider.inputs["clusterIdentifier"] == "the-uid"
    assert provider.inputs["context"] == "here"
    assert named(program, "lifecycle").inputs["context"] == "here"


def test_every_object_is_made_through_the_stack_s_own_provider(program: list[Recorded]) -> None:
    """The default provider follows the current context, whatever the stack's configuration names."""
    provider = named(program, "cluster")

    for resource in program:
        if resource.is_kubernetes_object:
            assert resource.provider.startswith(f"{provider.urn}::"), resource.name


def test_without_a_namespace_of_its_own_nothing_makes_one() -> None:
    program = record(settings("local", {"namespace": "shop", "createNamespace": "false"}))

    assert not of_kind(program, "Namespace")
    assert {r.inputs["metadata"]["namespace"] for r in of_kind(program, "Deployment")} == {"shop"}


def test_secrets_of_the_user_are_used_and_not_made() -> None:
    overrides = {
        "createNamespace": "false",
        "existingSecret": "shop-broker",
        "flowerAuthSecret": "shop-flower",
    }
    program = record(settings("local", overrides))

    assert not of_kind(program, "Secret")
    assert not [resource for resource in program if resource.type.endswith("GeneratedPassword")]
    text = json.dumps([resource.inputs for resource in of_kind(program, "Deployment")])
    assert '"shop-broker"' in text
    assert '"shop-flower"' in text
    assert "celery-broker" not in text.replace("/etc/celery-broker", "").replace("etc-celery-broker", "")


def test_flower_and_the_sample_app_are_optional() -> None:
    program = record(settings("local", {"flower": "false", "sampleApp": "false"}))

    names = {resource.inputs["metadata"]["name"] for resource in of_kind(program, "Deployment")}
    assert names == {"redis", "default-celery-worker", contract.SCALER_NAME}


def test_transport_options_reach_workers_and_scaler() -> None:
    options = {"sep": "|", "priority_steps": [0, 5], "global_keyprefix": "shop:"}
    program = record(settings("dev", {"brokerTransportOptions": json.dumps(options)}))

    found = dict(containers(program))
    value = found["workers-default-deployment"]["command"][-1]
    assert json.loads(value.removeprefix("broker.transport_options=(dict)")) == options
    environment = {entry["name"]: entry.get("value", "") for entry in found["scaler-deployment"]["env"]}
    assert json.loads(environment[contract.Env.BROKER_TRANSPORT_OPTIONS]) == options


def test_one_dictionary_holds_all_transport_options() -> None:
    """Two of them on one command line would leave the workers with the second one only."""
    overrides = {"visibilityTimeoutSeconds": "7200", "brokerTransportOptions": '{"sep": "|"}'}

    found = dict(containers(record(settings("dev", overrides))))

    command = found["workers-default-deployment"]["command"]
    assert command[command.index("--") :] == [
        "--",
        'accept_content=(list)["json"]',
        'broker.transport_options=(dict){"sep": "|", "visibility_timeout": 7200}',
    ]
    environment = {entry["name"]: entry.get("value", "") for entry in found["scaler-deployment"]["env"]}
    assert json.loads(environment[contract.Env.BROKER_TRANSPORT_OPTIONS]) == {
        "sep": "|",
        "visibility_timeout": 7200,
    }


def test_the_command_line_holds_each_setting_once_and_configuration_last() -> None:
    overrides = {
        "acksLate": "true",
        "prefetchMultiplier": "2",
        "disablePrefetch": "true",
        "softShutdownTimeoutSeconds": "20",
        "maxTasksPerChild": "50",
        "extraArgs": '["-P", "threads"]',
    }

    worker = dict(containers(record(settings("dev", overrides))))["workers-default-deployment"]

    assert worker["command"] == [
        *("celery", "-A", "shop.celery:app", "worker", "-n", "worker@$(POD_NAME)"),
        *("-Q", "celery", "-c", "1", "-l", "info", "--without-gossip", "--without-mingle"),
        *("--max-tasks-per-child", "50", "--prefetch-multiplier", "2", "--disable-prefetch"),
        *("-P", "threads", "--", 'accept_content=(list)["json"]'),
        *("task.acks_late=1", "worker.soft_shutdown_timeout=20"),
    ]
    assert {"name": "REMAP_SIGTERM", "value": "SIGQUIT"} in worker["env"]


def test_sigterm_keeps_its_meaning_without_a_soft_shutdown(program: list[Recorded]) -> None:
    """Remapped, it would kill the tasks that run."""
    for name, container in containers(program):
        assert "REMAP_SIGTERM" not in [entry["name"] for entry in container.get("env", [])], name


@pytest.mark.parametrize(
    ("overrides", "seconds"),
    [
        pytest.param({}, 300, id="the grace period"),
        pytest.param({"longestTaskSeconds": "50"}, 300, id="the grace period, if it is more"),
        pytest.param({"longestTaskSeconds": "100"}, 500, id="the running task and four"),  # 5 x 100
        pytest.param(
            {"longestTaskSeconds": "100", "acksLate": "true"}, 400, id="four, the running one included"
        ),
        pytest.param({"longestTaskSeconds": "200", "prefetchMultiplier": "1"}, 400, id="it and one more"),
        pytest.param(
            {"longestTaskSeconds": "400", "prefetchMultiplier": "1", "acksLate": "true"}, 400, id="it alone"
        ),
        pytest.param({"longestTaskSeconds": "400", "disablePrefetch": "true"}, 400, id="no other"),
        pytest.param({"longestTaskSeconds": "200", "drainSeconds": "90"}, 90, id="what is set"),
        pytest.param(
            {"longestTaskSeconds": "80000", "prefetchMultiplier": "100"}, 604800, id="a week at most"
        ),
    ],
)
def test_a_drain_may_take_as_long_as_what_a_process_holds(overrides: dict[str, str], seconds: int) -> None:
    (pool,) = of_kind(record(settings("dev", overrides)), "Celery")

    assert contract.policy_of(pool.inputs["spec"]).drain_seconds == seconds


def test_the_scaler_gets_the_whole_of_its_environment(stack: str) -> None:
    """All but its log level, which has a default of its own, and what is empty."""
    addresses = dict.fromkeys(("stackUrl", "flowerUrl", "grafanaUrl"), "https://example.com")
    everything = record(settings(stack, {**addresses, "scalerPagePrefix": "/fleet"}))
    environment = dict(containers(everything))["scaler-deployment"]["env"]

    names = {entry["name"] for entry in environment}
    not_given = {contract.Env.LOG_LEVEL.value, contract.Env.HANDSHAKE.value}
    of_other_brokers = {contract.Env.BROKER_MANAGEMENT_URL_FILE.value, contract.Env.BROKER_CA_FILE.value}
    assert names == {name.value for name in contract.Env} - not_given - of_other_brokers | {"HOME"}
    assert all(entry.get("value") or entry.get("valueFrom") for entry in environment)


def said_of_nothing(value: Any, path: str) -> Iterator[str]:
    """Where an object has a key with None, an empty text or an empty list. An item of a list means something
    also as an empty text: the core API's group, an argument."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            here = f"{path}.{key}"
            yield from [here] if entry in (None, "", []) else said_of_nothing(entry, here)
    for entry in value if isinstance(value, list) else ():
        yield from said_of_nothing(entry, path)


def test_nothing_is_declared_that_is_empty(program: list[Recorded]) -> None:
    """Pulumi's engine leaves it out: what it applies would differ from what is rendered."""
    objects = [resource for resource in program if resource.is_kubernetes_object]
    found = {path for resource in objects for path in said_of_nothing(resource.inputs, resource.name)}

    # Flat settings have no path; an object without the annotation is one that Pulumi did not make.
    assert found <= {f"fleet-default.metadata.annotations.{contract.SETTINGS_ANNOTATION}"}
