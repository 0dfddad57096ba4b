"""What Fingerprint's sandbox says of devices: one profile per kind of device, in the full form of v4."""

from typing import Any, Final

Json = dict[str, Any]

_CONFIDENT: Final = {"score": 0.99, "version": "1.1"}
_ANDROID: Final = {
    "package_name": "org.example.vote",
    "sdk": {"platform": "android", "version": "2.9.0"},
    "os": "Android",
    "os_version": "15",
    "device": "Pixel 9",
    "root_apps": False,
    "emulator": False,
    "cloned_app": False,
    "frida": False,
    "mitm_attack": False,
    "location_spoofing": False,
    "factory_reset_timestamp": 0,
    "active_call": False,
    "url": None,
}
_IOS: Final = {
    "bundle_id": "org.example.vote",
    "sdk": {"platform": "ios", "version": "2.9.0"},
    "os": "iOS",
    "os_version": "19.1",
    "device": "iPhone",
    "jailbroken": False,
    "simulator": False,
    "frida": False,
    "mitm_attack": False,
    "location_spoofing": False,
    "factory_reset_timestamp": 0,
    "active_call": False,
    "url": None,
}
_BUSY: Final = {"5_minutes": 60, "1_hour": 700, "24_hours": 9000}
_OPTIONAL: Final = (
    "bot", "vpn", "proxy", "incognito", "tampering", "tampering_details", "virtual_machine", "ip_info",
    "ip_blocklist", "velocity", "high_activity_device", "suspect_score", "browser_details", "replayed",
)  # fmt: skip

# What differs from a clean browser; None takes a field away
PROFILES: Final[dict[str, Json]] = {
    "clean_browser": {},
    "clean_android": _ANDROID,
    "clean_ios": _IOS,
    "vpn": {"vpn": True, "vpn_confidence": "high", "vpn_origin_country": "unknown", "suspect_score": 8},
    "datacenter_proxy": {
        "proxy": True,
        "proxy_confidence": "high",
        "proxy_details": {"proxy_type": "data_center", "provider": "Example Hosting"},
        "suspect_score": 10,
    },
    "tor": {"ip_blocklist": {"email_spam": True, "attack_source": True, "tor_node": True}, "suspect_score": 14},
    "bot": {"bot": "bad", "bot_type": "headlessChrome", "suspect_score": 30},
    "good_bot": {"bot": "good", "bot_type": "chatgpt_agent"},
    "emulator": {**_ANDROID, "emulator": True, "suspect_score": 20},
    "simulator": {**_IOS, "simulator": True, "suspect_score": 20},
    "rooted": {**_ANDROID, "root_apps": True, "suspect_score": 12},
    "jailbroken": {**_IOS, "jailbroken": True, "suspect_score": 12},
    "cloned_app": {**_ANDROID, "cloned_app": True, "suspect_score": 12},
    "hooked": {**_ANDROID, "frida": True, "suspect_score": 20},
    "mitm": {**_ANDROID, "mitm_attack": True, "suspect_score": 12},
    "location_spoofed": {**_ANDROID, "location_spoofing": True, "suspect_score": 8},
    "tampered": {
        "tampering": True,
        "tampering_confidence": "high",
        "tampering_details": {"anomaly_score": 0.97, "anti_detect_browser": False},
        "suspect_score": 18,
    },
    "anti_detect_browser": {
        "tampering": False,
        "tampering_details": {"anomaly_score": 0.4, "anti_detect_browser": True},
        "suspect_score": 18,
    },
    "virtual_machine": {"virtual_machine": True, "suspect_score": 6},
    "replayed": {"replayed": True, "suspect_score": 25},
    "incognito": {"incognito": True, "suspect_score": 3},
    "high_velocity": {
        "high_activity_device": True,
        "velocity": {"distinct_ip": _BUSY, "events": _BUSY, "ip_events": _BUSY},
        "suspect_score": 9,
    },
    "multi_account": {
        "velocity": {
            "distinct_linked_id": {"5_minutes": 6, "1_hour": 11, "24_hours": 40},
            "events": {"5_minutes": 8, "1_hour": 20, "24_hours": 60},
        }
    },
    "unidentified": {"identification": None},
    "low_confidence": {"confidence": {"score": 0.2, "version": "1.1"}},
    "partial": {"incremental_identification_status": "partially_completed"},
    "bare": dict.fromkeys(_OPTIONAL),
    "from_the_future": {
        "bot": "not_detected",
        "quantum_device": True,
        "vpn_confidence": "overwhelming",
        "sdk": {"platform": "watch", "version": "9.0.0"},
        "rare_device_percentile_bucket": "p100",
    },
}


def event_content(
    profile: str, *, event_id: str, timestamp_ms: int, visitor_id: str, linked_id: str, ip_address: str, **place: Any
) -> Json:
    """Return the event of a profile, as the vendor's `GET /events/{event_id}` has it.

    `place` has `country`, `latitude` and `longitude` of the address. Raises KeyError for an unknown profile.
    """
    changes = dict(PROFILES[profile])
    confidence = changes.pop("confidence", _CONFIDENT)
    family = "v6" if ":" in ip_address else "v4"
    content: Json = {
        "event_id": event_id,
        "timestamp": timestamp_ms,
        "source": "device",
        "incremental_identification_status": "completed",
        "linked_id": linked_id,
        "tags": {},
        "environment_id": "ae_sandbox",
        "suspect": False,
        "replayed": False,
        "url": "https://vote.example/register",
        "ip_address": ip_address,
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "os": "Linux",
        "os_version": "",
        "device": "Other",
        "browser_details": {"browser_name": "Firefox", "browser_major_version": "140", "os": "Linux"},
        "sdk": {"platform": "js", "version": "4.0.0"},
        "identification": {
            "visitor_id": visitor_id,
            "visitor_found": True,
            "confidence": confidence,
            "first_seen_at": timestamp_ms,
            "last_seen_at": timestamp_ms,
        },
        "bot": "not_detected",
        "ip_info": {
            family: {
                "address": ip_address,
                "geolocation": {
                    "accuracy_radius": 20,
                    "latitude": place["latitude"],
                    "longitude": place["longitude"],
                    "country_code": place["country"],
                },
                "asn": "64496",
                "asn_name": "EXAMPLE-NET",
                "datacenter_result": False,
            }
        },
        "ip_blocklist": {"email_spam": False, "attack_source": False, "tor_node": False},
        "proxy": False,
        "vpn": False,
        "incognito": False,
        "virtual_machine": False,
        "tampering": False,
        "tampering_details": {"anomaly_score": 0.01, "anti_detect_browser": False},
        "high_activity_device": False,
        "suspect_score": 0,
    }
    content |= changes
    if not linked_id:
        content["linked_id"] = None
    return {name: value for name, value in content.items() if value is not None}
