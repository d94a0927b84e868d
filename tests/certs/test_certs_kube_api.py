import pytest

from certs.kube_api import KubeConfigurations, KubeSecret, read_secret
from tests.certs.certs_memory import Memory, MemoryClient
from tests.certs.certs_world import MUTATING, NAMESPACE, VALIDATING, configuration
from tests.certs.kube_api_contract import ConfigurationsContract, SecretContract


class TestSecretInMemory(SecretContract):
    @pytest.fixture
    def secret(self) -> KubeSecret:
        return KubeSecret(MemoryClient(Memory()), NAMESPACE, "larder-webhook-certificates")


class TestConfigurationsInMemory(ConfigurationsContract):
    @pytest.fixture
    def configurations(self) -> KubeConfigurations:
        memory = Memory()
        memory.put(MUTATING, configuration("MutatingWebhookConfiguration", "a.larder.dev"))
        memory.put(VALIDATING, configuration("ValidatingWebhookConfiguration", "b.larder.dev"))
        return KubeConfigurations(
            MemoryClient(memory), mutating="larder.dev", validating="larder.dev"
        )


def test_configurations_that_are_not_there_are_no_error() -> None:
    client = MemoryClient(Memory())
    assert not KubeConfigurations(client, mutating="larder.dev", validating="larder.dev").read()


def test_values_of_a_secret_that_are_not_base64_count_as_empty() -> None:
    content = {"metadata": {"resourceVersion": "3"}, "data": {"path": "%%%", "tls.crt": "\u00e9"}}
    stored = read_secret(content)
    assert (stored.data, stored.resource_version) == ({"path": b"", "tls.crt": b""}, "3")
    assert read_secret({"metadata": {"resourceVersion": "3"}}).data == {}


def test_data_show_in_no_text() -> None:
    content = {"metadata": {"resourceVersion": "3"}, "data": {"path": "c2VjcmV0"}}
    assert "secret" not in repr(read_secret(content))
