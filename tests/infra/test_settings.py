"""Every wrong setting is named before anything is made, all of them in one message."""

from __future__ import annotations

import pytest

from infra.settings import Configuration, Pool, WrongSettings, load
from scaler import contract
from tests.infra.conftest import given


def message(values: dict[str, str], *, stack: str = "dev", secret: frozenset[str] = frozenset()) -> str:
    with pytest.raises(WrongSettings) as wrong:
        load(Configuration(stack=stack, values=values, secret_keys=secret))
    return str(wrong.value)


def one(key: str, wrong: str, effect: str, fix: str) -> str:
    """The whole message about one wrong setting."""
    return (
        "stack dev: one setting is wrong, nothing was changed.\n"
        f"  {key}: {wrong}\n    effect: {effect}\n    fix:    {fix}"
    )


MEMORY = "one pod without a memory limit can take the whole node's memory"
REFUSED = "the API server would refuse it, after half of the stack is there"
GUESSED = "its meaning would be guessed"
UNUSABLE = "the scaler would refuse the pool, and its workers would stay as they are"
DIFFERENT = "workers and scaler would not mean the same"
NO_QUEUE = "the workers consume from no queue and their demand is always 0"


def test_one_image_is_enough() -> None:
    """Every key but the image has a default; the flat keys are one pool."""
    settings = load(Configuration(stack="dev", values=given()))

    assert settings.pools == (Pool(name="default", image="shop:1"),)
    assert settings.namespace == "celery-fleet-dev"
    assert settings.redis_persistence == {"enabled": True, "size": "8Gi", "storageClass": ""}


def test_pools_override_the_flat_keys() -> None:
    """A pool has the flat keys' values where it gives none of its own."""
    values = given(
        minReplicas="2",
        maxReplicas="8",
        pools={"mail": {"queues": ["mail"], "maxReplicas": 20}, "orders": {"queues": ["orders"]}},
    )

    settings = load(Configuration(stack="dev", values=values))

    assert settings.pools == (
        Pool(name="mail", image="shop:1", queues=("mail",), min_replicas=2, max_replicas=20),
        Pool(name="orders", image="shop:1", queues=("orders",), min_replicas=2, max_replicas=8),
    )


def test_an_image_for_each_pool_needs_no_flat_one() -> None:
    values = given(image=None, pools={"mail": {"image": "mail:1"}})

    settings = load(Configuration(stack="dev", values=values))

    assert settings.pools == (Pool(name="mail", image="mail:1"),)


def test_a_part_of_the_persistence_leaves_the_rest_as_it_was() -> None:
    settings = load(Configuration(stack="dev", values=given(redisPersistence={"size": "1Gi"})))

    assert settings.redis_persistence == {"enabled": True, "size": "1Gi", "storageClass": ""}


def test_keys_of_other_projects_are_not_ours() -> None:
    load(Configuration(stack="dev", values={**given(), "aws:region": "eu-west-1"}))


def test_the_password_is_in_no_text_of_the_settings() -> None:
    """An exception or a log line that prints the settings must not print the password."""
    password = "correct-horse-battery"
    settings = load(
        Configuration(
            stack="dev",
            values=given(redisPassword=password),
            secret_keys=frozenset({"celery-fleet:redisPassword"}),
        )
    )

    assert settings.redis_password == password
    assert password not in repr(settings)


RULES = [
    pytest.param(
        given(image=None),
        one(
            "image",
            "is missing",
            "there is nothing to run",
            "pulumi config set image '<image with your Celery app>'",
        ),
        id="no image",
    ),
    pytest.param(
        given(minReplicas="9", maxReplicas="4"),
        one(
            "minReplicas",
            f"{contract.MIN_ABOVE_MAX.message} (9 > 4)",
            "no number of workers would be allowed",
            "pulumi config set minReplicas 4",
        ),
        id="the minimum is above the maximum",
    ),
    pytest.param(
        given(minReplicas="-1"),
        one(
            "minReplicas",
            "must be a whole number from 0 to 1000, not -1",
            "no such number can be had",
            "pulumi config set minReplicas 0",
        ),
        id="a negative limit",
    ),
    pytest.param(
        given(maxReplicas="2.5"),
        one(
            "maxReplicas",
            "must be a whole number from 1 to 1000, not '2.5'",
            GUESSED,
            "pulumi config set maxReplicas 10",
        ),
        id="a limit that is no whole number",
    ),
    pytest.param(
        given(maxReplicas="1000000"),
        one(
            "maxReplicas",
            "must be a whole number from 1 to 1000, not 1000000",
            "one flood fills the cluster and the connections of what the tasks call",
            "pulumi config set maxReplicas 1000",
        ),
        id="a huge limit",
    ),
    pytest.param(
        given(maxReplicas="9" * 5000),
        one(
            "maxReplicas",
            f"must be a whole number from 1 to 1000, not '{'9' * 5000}'",
            GUESSED,
            "pulumi config set maxReplicas 10",
        ),
        id="a limit of more digits than Python reads",
    ),
    pytest.param(
        given(averageValue="0"),
        one(
            "averageValue",
            "must be a whole number from 1 to 1000000, not 0",
            "a short burst starts more pods than it keeps busy",
            "pulumi config set averageValue 1",
        ),
        id="averageValue below 1",
    ),
    pytest.param(
        given(concurrency="0"),
        one(
            "concurrency",
            "must be a whole number from 1 to 1000, not 0",
            "a worker without a process runs nothing",
            "pulumi config set concurrency 1",
        ),
        id="concurrency below 1",
    ),
    pytest.param(
        given(gracePeriodSeconds="0"),
        one(
            "gracePeriodSeconds",
            "must be a whole number from 1 to 86400, not 0",
            "Kubernetes kills the worker in the middle of a task, and Redis redelivers it only after the "
            "visibility timeout, an hour later",
            "pulumi config set gracePeriodSeconds 1",
        ),
        id="no grace period",
    ),
    pytest.param(
        given(queues=[]),
        one(
            "queues[0]",
            contract.QUEUE_EMPTY.message,
            NO_QUEUE,
            "pulumi config set --path 'queues[0]' celery",
        ),
        id="no queue",
    ),
    pytest.param(
        given(queues=["mail", " "]),
        one("queues[1]", contract.QUEUE_EMPTY.message, UNUSABLE, "pulumi config rm --path 'queues[1]'"),
        id="a queue without a name",
    ),
    pytest.param(
        given(queues=["mail", "mail"]),
        one(
            "queues[1]",
            f"{contract.QUEUE_TWICE.message} ('mail')",
            UNUSABLE,
            "pulumi config rm --path 'queues[1]'",
        ),
        id="a queue twice in one pool",
    ),
    pytest.param(
        given(queues=["mail,orders"]),
        one(
            "queues[0]",
            "'mail,orders' is no single name: commas separate queues, blanks around a name are dropped",
            "workers and scaler would look at other queues",
            "pulumi config set --path 'queues[0]' mail",
        ),
        id="two queues in one name",
    ),
    pytest.param(
        given(queues=["q" * 1025]),
        one(
            "queues",
            "their names must not be longer than 1024 characters together",
            "the API server would refuse the Celery object",
            "pulumi config rm queues",
        ),
        id="more queues than a Celery object holds",
    ),
    pytest.param(
        given(pools={"mail": {"queues": ["a", "b"]}, "orders": {"queues": ["c", "b"]}}),
        one(
            "pools.orders.queues",
            "'b' is served by pool mail, too (by pool orders here)",
            "each of its messages would start workers in both pools",
            "pulumi config set --path 'pools.orders.queues[1]' '<queue of orders>'",
        ),
        id="a queue in two pools",
    ),
    pytest.param(
        given(pools={" ": {"queues": ["a"]}}),
        one(
            'pools[" "]',
            "a pool must have a name",
            "its Deployment and its Celery object are named after it",
            "pulumi config rm --path 'pools[\" \"]'",
        ),
        id="a pool without a name",
    ),
    pytest.param(
        given(maxreplicas="4"),
        one(
            "maxreplicas",
            "there is no such setting",
            "nothing would read it; did you mean maxReplicas?",
            "pulumi config rm maxreplicas",
        ),
        id="a mistyped key",
    ),
    pytest.param(
        given(pools={"mail": {"maxReplica": 4}}),
        one(
            "pools.mail.maxReplica",
            "there is no such setting",
            "nothing would read it; did you mean maxReplicas?",
            "pulumi config rm --path pools.mail.maxReplica",
        ),
        id="a mistyped key in a pool",
    ),
    pytest.param(
        given(pools={"mail": {"namespace": "x"}}),
        one(
            "pools.mail.namespace",
            "there is no such setting",
            "nothing would read it",
            "pulumi config rm --path pools.mail.namespace",
        ),
        id="a key of the stack in a pool",
    ),
    pytest.param(
        given(pools={"mail": {"paused": "yes"}}),
        one(
            "pools.mail.paused",
            "must be true or false, not 'yes'",
            GUESSED,
            "pulumi config set --path pools.mail.paused false",
        ),
        id="a wrong type in a pool",
    ),
    pytest.param(
        given(pools=["mail"]),
        one(
            "pools",
            "must be an object, not ['mail']",
            GUESSED,
            "pulumi config set --path 'pools[\"<name>\"].queues[0]' '<queue>'",
        ),
        id="pools that are a list",
    ),
    pytest.param(
        given(pools={"mail": None}),
        one(
            "pools.mail",
            "must be an object, not None",
            GUESSED,
            "pulumi config set --path 'pools.mail.queues[0]' '<queue>'",
        ),
        id="a pool without anything",
    ),
    pytest.param(
        given(logLevel="INFO"),
        one(
            "logLevel",
            "must be one of debug, info, warning, error, critical, not 'INFO'",
            "it would be refused where it is used, after half of the stack is there",
            "pulumi config set logLevel info",
        ),
        id="a log level that Celery spells otherwise",
    ),
    pytest.param(
        given(resources={"requests": {"memory": "1Gi"}}),
        one(
            "resources.limits.memory",
            "is missing",
            MEMORY,
            "pulumi config set --path resources.limits.memory 512Mi",
        ),
        id="no memory limit",
    ),
    pytest.param(
        given(resources={"limits": {"memory": "1 GB"}}),
        one(
            "resources.limits.memory",
            "must be a quantity like 512Mi, not '1 GB'",
            REFUSED,
            "pulumi config set --path resources.limits.memory 512Mi",
        ),
        id="a quantity that Kubernetes does not know",
    ),
    pytest.param(
        given(resources={"limit": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
        one(
            "resources.limit",
            "there is no such member",
            "nothing would read it; did you mean limits?",
            "pulumi config rm --path resources.limit",
        ),
        id="a mistyped member",
    ),
    pytest.param(
        given(env={"CELERY_BROKER_URL": "redis://elsewhere"}),
        one(
            "env.CELERY_BROKER_URL",
            "is set by the stack itself",
            "the workers would use another broker than the scaler",
            "pulumi config rm --path env.CELERY_BROKER_URL",
        ),
        id="a variable that is the stack's",
    ),
    pytest.param(
        given(env={"REMAP_SIGTERM": "SIGQUIT"}),
        one(
            "env.REMAP_SIGTERM",
            "is set by the stack itself",
            "a worker that is told to stop would kill its tasks; softShutdownTimeoutSeconds sets it",
            "pulumi config rm --path env.REMAP_SIGTERM",
        ),
        id="a variable that changes how workers stop",
    ),
    *(
        pytest.param(
            given(extraArgs=arguments),
            one(
                f"extraArgs[{where}]",
                f"{arguments[where]} {wrong}",
                effect,
                f"pulumi config rm --path 'extraArgs[{where}]'",
            ),
            id=f"extra arguments {' '.join(arguments)}",
        )
        for arguments, where, wrong, effect in [
            (["-A", "shop"], 0, "stands in the setting celeryApp", DIFFERENT),
            (["--app=shop"], 0, "stands in the setting celeryApp", DIFFERENT),
            (["-E", "-Q", "mail"], 1, "stands in the setting queues", DIFFERENT),
            (["-Qmail"], 0, "stands in the setting queues", DIFFERENT),
            (["-X", "mail"], 0, "stands in the setting queues", DIFFERENT),
            (["-Ec4"], 0, "stands in the setting concurrency", DIFFERENT),
            (["--loglevel", "debug"], 0, "stands in the setting logLevel", DIFFERENT),
            (["--max-tasks-per-child=9"], 0, "stands in the setting maxTasksPerChild", DIFFERENT),
            (["--prefetch-multiplier", "1"], 0, "stands in the setting prefetchMultiplier", DIFFERENT),
            (["-P", "threads", "--disable-prefetch"], 2, "stands in the setting disablePrefetch", DIFFERENT),
            (["-n", "w@%h"], 0, "is set by the stack", "the scaler finds the pod of a worker by this name"),
            (
                ["--autoscale=8,2"],
                0,
                "changes the number of processes",
                "the scaler counts `concurrency` tasks for each worker, and adds and removes workers itself",
            ),
            (
                ["-D"],
                0,
                "leaves the container",
                "Kubernetes would take the worker for ended and start it anew",
            ),
            (
                ["-b", "redis://elsewhere"],
                0,
                "is set by the stack",
                "the workers would use another broker than the scaler",
            ),
        ]
    ),
    pytest.param(
        given(extraArgs=["-E", "--", "task.acks_late=1"]),
        one(
            "extraArgs[1]",
            "`--` ends the options, and Celery's configuration would follow",
            "the stack's own, such as acksLate, would be read as another argument",
            "pulumi config rm --path 'extraArgs[1]'",
        ),
        id="configuration among the extra arguments",
    ),
    pytest.param(
        given(extraArgs=["-P gevent", "gevent"]),
        one(
            "extraArgs[1]",
            "'gevent' is neither an option nor the value of one",
            "the workers would stop at their start",
            "pulumi config rm --path 'extraArgs[1]'",
        ),
        id="an extra argument that belongs to no option",
    ),
    pytest.param(
        given(extraArgs=["--time-limit", 600]),
        one(
            "extraArgs[1]",
            "must be an argument as text, not 600",
            REFUSED,
            "pulumi config set --type string --path 'extraArgs[1]' 600",
        ),
        id="a number among the extra arguments",
    ),
    pytest.param(
        given(visibilityTimeoutSeconds="7200", brokerTransportOptions={"visibility_timeout": 3600}),
        one(
            "brokerTransportOptions.visibility_timeout",
            "visibilityTimeoutSeconds is given as well",
            "only one of them can hold",
            "pulumi config rm --path brokerTransportOptions.visibility_timeout",
        ),
        id="two visibility timeouts",
    ),
    pytest.param(
        given(pools={"mail": {"drainSeconds": 10**6}}),
        one(
            "pools.mail.drainSeconds",
            "must be a whole number from 0 to 604800, not 1000000",
            "a worker whose task hangs takes no other that long",
            "pulumi config set --path pools.mail.drainSeconds 604800",
        ),
        id="a drain of more than a week",
    ),
    pytest.param(
        given(env={"WORKERS": 4}),
        one(
            "env.WORKERS",
            "must be text, not 4",
            REFUSED,
            "pulumi config set --type string --path env.WORKERS 4",
        ),
        id="a variable that is a number",
    ),
    pytest.param(
        given(envFrom=[{"secretRef": "shop"}]),
        one(
            "envFrom[0]",
            'must be like {"secretRef": {"name": "..."}} or {"configMapRef": {"name": "..."}}',
            REFUSED,
            "pulumi config rm --path 'envFrom[0]'",
        ),
        id="an envFrom of another shape",
    ),
    pytest.param(
        given(behavior={"scaleDown": {"stabilizationWindowSeconds": -1}}),
        one(
            "behavior",
            "stabilizationWindowSeconds must be a whole number from 0 to 3600, not -1",
            UNUSABLE,
            "pulumi config rm behavior",
        ),
        id="a behavior that the scaler refuses",
    ),
    pytest.param(
        given(behavior={"scaleDown": {"stabilizationSeconds": 1}}),
        one(
            "behavior.scaleDown.stabilizationSeconds",
            "there is no such member",
            "nothing would read it; did you mean stabilizationWindowSeconds?",
            "pulumi config rm --path behavior.scaleDown.stabilizationSeconds",
        ),
        id="a behavior that nobody reads",
    ),
    pytest.param(
        given(brokerTransportOptions={"priority_steps": [3, 6]}),
        one(
            "brokerTransportOptions.priority_steps",
            "must be whole numbers from 0 upwards, each once, like [0, 3, 6, 9], not [3, 6]",
            "workers and scaler would look for messages under different keys",
            "pulumi config rm --path brokerTransportOptions.priority_steps",
        ),
        id="priority steps without the lowest",
    ),
    pytest.param(
        given(redisPersistence={"enabled": "no"}),
        one(
            "redisPersistence.enabled",
            "must be true or false, not 'no'",
            GUESSED,
            "pulumi config set --path redisPersistence.enabled true",
        ),
        id="a persistence neither on nor off",
    ),
    pytest.param(
        given(redisImage=""),
        one(
            "redisImage", "must not be empty", "there is no broker", "pulumi config set redisImage redis:8.2"
        ),
        id="no broker's image",
    ),
    pytest.param(
        given(flowerServiceType="NodePort", flowerNodePort="80"),
        one(
            "flowerNodePort",
            "must be 0 or from 30000 to 32767, not 80",
            "the API server would refuse the Service",
            "pulumi config set flowerNodePort 0",
        ),
        id="a port that is no node port",
    ),
    pytest.param(
        given(scalerNodePort="30808"),
        one(
            "scalerNodePort",
            "a Service of type ClusterIP has no port on the nodes, 30808 cannot be given",
            "the API server would refuse the Service",
            "pulumi config set scalerServiceType NodePort",
        ),
        id="a node port for a Service without one",
    ),
    pytest.param(
        given(sampleApp="true", brokerTransportOptions={"sep": "|", "visibility_timeout": 60}),
        one(
            "sampleApp",
            "brokerTransportOptions sets sep, which the sample app does not know",
            "it would publish tasks under keys that no worker looks at",
            "pulumi config set sampleApp false",
        ),
        id="a sample app that would publish elsewhere",
    ),
    pytest.param(
        given(existingSecret="shop-broker"),
        one(
            "existingSecret",
            "the namespace that should hold it is made, and removed, by this stack",
            "no pod could start: their password is not there yet",
            "pulumi config set createNamespace false",
        ),
        id="a Secret in a namespace that is not there yet",
    ),
    pytest.param(
        given(redisPassword="correct-horse-battery"),
        one(
            "redisPassword",
            "is stored in the clear",
            "whoever reads the stack's file reads the password",
            "pulumi config set --secret redisPassword",
        ),
        id="a password that is no secret",
    ),
    pytest.param(
        {**given(), "kubernetes:kubeconfig": "apiVersion: v1\nkind: Config\n"},
        one(
            "kubernetes:kubeconfig",
            "must be the path of a file, not its contents",
            "the cluster's credentials would be stored in the stack's state",
            "pulumi config set kubernetes:kubeconfig <path>",
        ),
        id="a kubeconfig's contents",
    ),
]


@pytest.mark.parametrize(("values", "expected"), RULES)
def test_a_wrong_setting_is_named_with_effect_and_cure(values: dict[str, str], expected: str) -> None:
    assert message(values) == expected


def test_a_stack_whose_name_makes_no_namespace_says_so() -> None:
    expected = one(
        "namespace",
        "'celery-fleet-Dev_1' is no name for a namespace (a DNS label of at most 63 characters)",
        "Kubernetes would refuse it",
        "pulumi config set namespace '<name>'",
    ).replace("stack dev", "stack Dev_1")

    assert message(given(), stack="Dev_1") == expected


def test_a_secret_that_a_deployment_would_show_is_refused() -> None:
    """`pulumi config set --secret --path env.TOKEN ...` would end up in a Deployment in the clear."""
    expected = one(
        "env",
        "is set as a secret, and it would be written into a Deployment in the clear",
        "whoever may read Deployments reads it",
        "make a Secret, name it in envFrom, and take it out: pulumi config rm env",
    )

    assert message(given(env={"TOKEN": "x"}), secret=frozenset({"celery-fleet:env"})) == expected


@pytest.mark.parametrize(
    ("password", "wrong", "effect"),
    [
        (
            "short",
            "has fewer than 16 characters",
            "Redis has no lock-out: it answers some 100,000 guesses a second",
        ),
        (
            "sixteen letters and blanks",
            "must be printable ASCII without blanks",
            "clients and redis.conf would disagree about what it is",
        ),
    ],
)
def test_a_password_that_is_none_is_refused_without_being_shown(
    password: str, wrong: str, effect: str
) -> None:
    secret = frozenset({"celery-fleet:redisPassword"})

    text = message(given(redisPassword=password), secret=secret)

    assert text == one("redisPassword", wrong, effect, "pulumi config set --secret redisPassword")
    assert password not in text


def test_all_wrong_settings_are_in_one_message() -> None:
    """A person mends them in one go, and none is said twice although two pools inherit it."""
    values = given(
        concurrency="0",
        celryApp="shop",
        pools={"mail": {"queues": ["mail"], "minReplicas": 11}, "orders": {"queues": ["mail"]}},
    )

    assert message(values) == (
        "stack dev: 4 settings are wrong, nothing was changed.\n"
        "  concurrency: must be a whole number from 1 to 1000, not 0\n"
        "    effect: a worker without a process runs nothing\n"
        "    fix:    pulumi config set concurrency 1\n"
        "  celryApp: there is no such setting\n"
        "    effect: nothing would read it; did you mean celeryApp?\n"
        "    fix:    pulumi config rm celryApp\n"
        "  pools.mail.minReplicas: minReplicas must not be greater than maxReplicas (11 > 10)\n"
        "    effect: no number of workers would be allowed\n"
        "    fix:    pulumi config set --path pools.mail.minReplicas 10\n"
        "  pools.orders.queues: 'mail' is served by pool mail, too (by pool orders here)\n"
        "    effect: each of its messages would start workers in both pools\n"
        "    fix:    pulumi config set --path 'pools.orders.queues[0]' '<queue of orders>'"
    )
