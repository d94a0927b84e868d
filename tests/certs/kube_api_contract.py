"""What the Secret and the configurations promise, whatever API server is behind them."""

import pytest

from certs.kube_api import KubeConfigurations, KubeSecret
from runtime.kube.errors import ConflictError, NotFoundError


class SecretContract:
    """`secret` is a fixture of the subclass: one that does not exist yet."""

    def test_there_is_none_until_one_is_made(self, secret: KubeSecret) -> None:
        assert secret.read() is None
        secret.create({"path": b"\xff\x00", "tls.crt": b"leaf"})
        stored = secret.read()
        assert stored is not None
        assert stored.data == {"path": b"\xff\x00", "tls.crt": b"leaf"}

    def test_the_second_to_make_it_is_told(self, secret: KubeSecret) -> None:
        secret.create({"path": b"first"})
        with pytest.raises(ConflictError):
            secret.create({"path": b"second"})
        stored = secret.read()
        assert stored is not None
        assert stored.data == {"path": b"first"}

    def test_an_update_is_for_the_version_that_was_read(self, secret: KubeSecret) -> None:
        secret.create({"path": b"1", "tls.crt": b"gone soon"})
        stored = secret.read()
        assert stored is not None
        secret.update({"path": b"2"}, stored.resource_version)
        with pytest.raises(ConflictError):
            secret.update({"path": b"3"}, stored.resource_version)
        stored = secret.read()
        assert stored is not None
        assert stored.data == {"path": b"2"}

    def test_what_is_gone_cannot_be_updated(self, secret: KubeSecret) -> None:
        with pytest.raises(NotFoundError):
            secret.update({"path": b"1"}, "1")


class ConfigurationsContract:
    """`configurations` is a fixture of the subclass: both of them, without a bundle."""

    def test_both_are_read_and_patched_at_the_version_that_was_read(
        self, configurations: KubeConfigurations
    ) -> None:
        found = configurations.read()
        assert [content["kind"] for content in found] == [
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
        ]
        for content in found:
            version = content["metadata"]["resourceVersion"]
            at = {"op": "replace", "path": "/metadata/resourceVersion", "value": version}
            path = "/webhooks/0/clientConfig/service/path"
            configurations.patch(content, [at, {"op": "add", "path": path, "value": "/new"}])
            with pytest.raises(ConflictError):
                configurations.patch(content, [at, {"op": "add", "path": path, "value": "/old"}])
        for content in configurations.read():
            assert content["webhooks"][0]["clientConfig"]["service"]["path"] == "/new"
