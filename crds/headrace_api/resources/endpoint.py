"""An OpenAI-compatible endpoint that somebody else runs, as a tier of a router."""

from typing import ClassVar

from pydantic import Field

from headrace_api.resources.cascade import KEY_PATTERN
from headrace_api.resources.labels import ObjectName
from headrace_api.resources.meta import Part
from headrace_api.resources.rules import Rule
from headrace_api.resources.scaling import ADDRESS_PATTERN


class KeySecret(Part):
    """An API key in a Secret."""

    name: ObjectName = Field(examples=["example-com"])
    """The Secret, in the router's namespace."""
    key: str = Field(default="key", pattern=KEY_PATTERN, max_length=253, examples=["key"])
    """Where in it the API key is."""


class Endpoint(Part):
    """Where the endpoint is, and who we are there."""

    rules: ClassVar = (
        Rule(
            "!has(self.keyFile) || !has(self.keySecret)",
            lambda endpoint: endpoint.key_file is None or endpoint.key_secret is None,
            "name keyFile or keySecret, not both",
            "keySecret",
        ),
    )

    url: str = Field(pattern=ADDRESS_PATTERN, max_length=1024, examples=["https://api.example.com/v1"])
    """Its base address, with what stands before `/chat/completions`. Certificates of `https` are checked against the
    system's authorities, or those in the file that SSL_CERT_FILE names."""
    model: str = Field(min_length=1, max_length=256, examples=["large-1"])
    """What the model is called there; it takes the place of the name that the client gave."""
    key_file: str | None = Field(default=None, min_length=1, max_length=4096, examples=["example.key"])
    """File with the API key, for local mode. It is read again when it changes."""
    key_secret: KeySecret | None = Field(default=None, examples=[{"name": "example-com", "key": "key"}])
    """Secret with the API key. With neither, requests carry none."""
