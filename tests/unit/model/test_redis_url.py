"""The address of Redis: what both clients accept is parsed, anything else is refused in one line with the remedy."""

import pytest

from deployer.model.errors import ConfigError
from deployer.model.redis_url import RedisUrl, parse_redis_url
from deployer.settings.loading import load_config

CHECKED = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
UNCHECKED = {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
SECRET = "s3cret"


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("redis://", RedisUrl("redis", (("localhost", 6379),))),
        ("redis://h", RedisUrl("redis", (("h", 6379),))),
        ("redis://h:1/", RedisUrl("redis", (("h", 1),))),
        ("redis://h/12", RedisUrl("redis", (("h", 6379),), database=12)),
        ("redis://h?db=2", RedisUrl("redis", (("h", 6379),), database=2)),
        ("redis://[::1]:7/3", RedisUrl("redis", (("::1", 7),), database=3)),
        ("redis://:p%40s%2Fs%25@h", RedisUrl("redis", (("h", 6379),), password="p@s/s%")),
        ("redis://u:pw@h", RedisUrl("redis", (("h", 6379),), username="u", password="pw")),
        ("redis://h?username=u&password=p%26w", RedisUrl("redis", (("h", 6379),), username="u", password="p&w")),
        ("rediss://h", RedisUrl("rediss", (("h", 6379),), tls=CHECKED)),
        ("rediss://h?ssl_cert_reqs=none", RedisUrl("rediss", (("h", 6379),), tls=UNCHECKED)),
        (
            "rediss://h?ssl_ca_certs=/ca.pem&ssl_check_hostname=false&ssl_min_version=772",
            RedisUrl(
                "rediss",
                (("h", 6379),),
                tls={
                    "ssl_cert_reqs": "required",
                    "ssl_check_hostname": False,
                    "ssl_ca_certs": "/ca.pem",
                    "ssl_min_version": 772,
                },
            ),
        ),
        ("unix:///run/redis.sock", RedisUrl("unix", path="/run/redis.sock")),
        ("unix://u:pw@/a%20b?db=4", RedisUrl("unix", path="/a b", database=4, username="u", password="pw")),
        ("sentinel://a,b:2", RedisUrl("sentinel", (("a", 26379), ("b", 2)), service="mymaster")),
        ("sentinel://[::1]:2,[::2]/m/5", RedisUrl("sentinel", (("::1", 2), ("::2", 26379)), service="m", database=5)),
        (
            "sentinel://:pw@a/m",
            RedisUrl(
                "sentinel", (("a", 26379),), service="m", password="pw",
                sentinel_username="default", sentinel_password="pw",
            ),
        ),
        (
            "sentinel://u:pw@a/m?sentinel_password=s%2Fpw",
            RedisUrl(
                "sentinel", (("a", 26379),), service="m", username="u", password="pw",
                sentinel_username="default", sentinel_password="s/pw",
            ),
        ),
        (
            "sentinel://a/m?sentinel_username=su&sentinel_password=spw",
            RedisUrl(
                "sentinel", (("a", 26379),), service="m", sentinel_username="su", sentinel_password="spw"
            ),
        ),
        (
            "sentinel://:pw@a/m?sentinel_password=",
            RedisUrl("sentinel", (("a", 26379),), service="m", password="pw"),
        ),
        ("sentinel://a/m?ssl=true", RedisUrl("sentinel", (("a", 26379),), service="m", tls=CHECKED)),
        ("sentinel://a/m?ssl=false", RedisUrl("sentinel", (("a", 26379),), service="m")),
    ],
)  # fmt: skip
def test_an_address_is_parsed(url: str, read: RedisUrl) -> None:
    assert parse_redis_url(url) == read
    assert load_config({"DEPLOYER_REDIS_URL": url})


NO_NUMBER = "names a database that is not a number; write one such as 0"
NO_URL = (
    "is not a redis://, rediss://, unix:// or sentinel:// URL;"
    " write / ? # @ % : in a user or password encoded, as %2F"
)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://h", NO_URL),
        ("redis:h", NO_URL),
        ("h:6379", NO_URL),
        ("redis://h:many/0", NO_URL),
        ("redis://h:0", NO_URL),
        ("redis://h:65536", NO_URL),
        ("redis://[::1", NO_URL),
        (f"redis://:{SECRET}#1@h:1/0", NO_URL),
        (f"redis://:{SECRET}/1@h:1/0", NO_URL),
        (f"redis://:{SECRET}?1@h:1/0", NO_URL),
        ("sentinel://", NO_URL),
        ("sentinel://a,,b/m", NO_URL),
        ("sentinel://a:many/m", NO_URL),
        (f"redis://h/{SECRET}", NO_NUMBER),
        ("redis://h/0/1", NO_NUMBER),
        ("redis://h/-1", NO_NUMBER),
        ("redis://h/٣", NO_NUMBER),
        ("redis://h?db=many", NO_NUMBER),
        ("redis://h?db=", NO_NUMBER),
        ("redis://h/1.0", NO_NUMBER),
        ("redis://h/99999999999999999999", NO_NUMBER),
        ("unix:///s?db=x", NO_NUMBER),
        ("sentinel://a/m/x", NO_NUMBER),
        ("sentinel://a/m/0/1", NO_NUMBER),
        ("redis://h/1?db=1", "names a database in its path and as the option db; remove one"),
        ("redis://h?db=1&db=2", "has the option db twice; remove one"),
        (
            "redis://h/0?protocol=3",
            "has the option protocol, which is not supported; remove it: only db, username, password are",
        ),
        (f"redis://:pw@h?{SECRET}@word=1", NO_URL),
        (
            f"redis://h?{SECRET}-{SECRET}=1",
            "has an option, which is not supported; remove it: only db, username, password are",
        ),
        ("redis://h?ssl=true", "has the option ssl, which a redis:// URL does not take; write rediss:// for TLS"),
        (
            "redis://h?ssl_ca_certs=/ca",
            "has the option ssl_ca_certs, which a redis:// URL does not take; write rediss:// for TLS",
        ),
        ("rediss://h?ssl=true", "has the option ssl, which a rediss:// URL does not take; remove it"),
        ("unix:///s?ssl=true", "has the option ssl, which a unix:// URL does not take; remove it"),
        ("unix://", "has no path of a socket; write unix:///path/to/redis.sock"),
        ("unix://run/redis.sock", "has no path of a socket; write unix:///path/to/redis.sock"),
        ("rediss://h?ssl_cert_reqs=maybe", "has an ssl_cert_reqs that is not none, optional or required; correct it"),
        (
            "rediss://h?ssl_check_hostname=maybe",
            "has the option ssl_check_hostname with neither true nor false; correct it",
        ),
        ("rediss://h?ssl_min_version=1.2", "has an ssl_min_version that is not 771 (TLS 1.2) or 772 (1.3); correct it"),
        ("rediss://h?ssl_keyfile=/k", "has the option ssl_keyfile without ssl_certfile; add it"),
        ("rediss://h?ssl_ca_certs=", "has the option ssl_ca_certs without a value; give it one, or remove it"),
        ("sentinel://a/m?ssl=maybe", "has the option ssl with neither true nor false; correct it"),
        ("sentinel://a/m?ssl_ca_certs=/ca", "has options for TLS but not ssl=true; add it"),
        (
            "sentinel://a/m?sentinel_username=u",
            "has the option sentinel_username without a password; add sentinel_password",
        ),
    ],
)  # fmt: skip
def test_an_unusable_address_is_refused_in_one_line(url: str, line: str) -> None:
    for read in (parse_redis_url, lambda value: load_config({"DEPLOYER_REDIS_URL": value})):
        with pytest.raises(ConfigError) as refused:
            read(url)
        assert str(refused.value) == f"DEPLOYER_REDIS_URL {line}"
        assert SECRET not in str(refused.value)


def test_passwords_are_in_no_repr() -> None:
    shown = repr(
        parse_redis_url(
            f"sentinel://u:{SECRET}@a/m?sentinel_password={SECRET}&ssl=true&ssl_password={SECRET}"
        )
    )
    assert SECRET not in shown
