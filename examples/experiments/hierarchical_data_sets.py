"""Public data sets whose classes form a hierarchy, with a word for every name in it.

Words of classes are all different and begin with different tokens, so that the same words serve the hierarchy and the
flat template with all classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class HierarchicalDataSet:
    """A data set with a label column for every level.

    Attributes:
        title: Its name in tables.
        hub_id: Its name on the Hub, if it is there with these columns.
        level_columns: Label columns from the top down.
        words: Words of the names that are no words themselves.
        sampling: How the experiments draw training examples: arguments of `SamplingArguments`.
        held_out: Rows of the unused training data to validate on.
    """

    title: str
    hub_id: str | None
    level_columns: tuple[str, ...]
    words: dict[str, str] = field(default_factory=dict)
    sampling: dict[str, float | int] = field(default_factory=dict)
    held_out: int = 600


_TREC_LEVEL_1 = {
    "ABBR": "abbreviation",
    "DESC": "description",
    "ENTY": "entity",
    "HUM": "human",
    "LOC": "location",
    "NUM": "number",
}
_TREC_LEVEL_2 = {
    "ABBR": {"abb": "abbreviation", "exp": "expansion"},
    "DESC": {"def": "definition", "desc": "description", "manner": "manner", "reason": "reason"},
    "ENTY": {
        "animal": "animal",
        "body": "body",
        "color": "color",
        "cremat": "invention",
        "currency": "currency",
        "dismed": "disease",
        "event": "event",
        "food": "food",
        "instru": "instrument",
        "lang": "language",
        "letter": "letter",
        "other": "entity",
        "plant": "plant",
        "product": "product",
        "religion": "religion",
        "sport": "sport",
        "substance": "substance",
        "symbol": "symbol",
        "techmeth": "technique",
        "termeq": "term",
        "veh": "vehicle",
        "word": "word",
    },
    "HUM": {"desc": "biography", "gr": "group", "ind": "individual", "title": "title"},
    "LOC": {"city": "city", "country": "country", "mount": "mountain", "other": "location", "state": "state"},
    "NUM": {
        "code": "code",
        "count": "count",
        "date": "date",
        "dist": "distance",
        "money": "money",
        "ord": "order",
        "other": "number",
        "perc": "percent",
        "period": "period",
        "speed": "speed",
        "temp": "temperature",
        "volsize": "size",
        "weight": "weight",
    },
}
_HWU64 = {
    "iot": "home",
    "qa": "question",
    "general": "conversation",
    "audio": "volume",
    "datetime": "time",
    "lists": "list",
    "takeaway": "meal",
    "alarm_query": "alarm",
    "alarm_remove": "cancel",
    "alarm_set": "wake",
    "audio_volume_down": "quiet",
    "audio_volume_mute": "mute",
    "audio_volume_up": "loud",
    "calendar_query": "schedule",
    "calendar_remove": "delete",
    "calendar_set": "appointment",
    "cooking_recipe": "recipe",
    "datetime_convert": "zone",
    "datetime_query": "clock",
    "email_addcontact": "contact",
    "email_query": "mail",
    "email_querycontact": "phone",
    "email_sendemail": "send",
    "general_affirm": "agree",
    "general_commandstop": "stop",
    "general_confirm": "confirm",
    "general_dontcare": "whatever",
    "general_explain": "explain",
    "general_joke": "joke",
    "general_negate": "wrong",
    "general_praise": "praise",
    "general_quirky": "chat",
    "general_repeat": "repeat",
    "iot_cleaning": "clean",
    "iot_coffee": "coffee",
    "iot_hue_lightchange": "color",
    "iot_hue_lightdim": "dim",
    "iot_hue_lightoff": "dark",
    "iot_hue_lighton": "lamp",
    "iot_hue_lightup": "bright",
    "iot_wemo_off": "socket",
    "iot_wemo_on": "plug",
    "lists_createoradd": "create",
    "lists_query": "list",
    "lists_remove": "remove",
    "music_likeness": "like",
    "music_query": "song",
    "music_settings": "settings",
    "news_query": "news",
    "play_audiobook": "book",
    "play_game": "game",
    "play_music": "music",
    "play_podcasts": "episode",
    "play_radio": "radio",
    "qa_currency": "currency",
    "qa_definition": "definition",
    "qa_factoid": "fact",
    "qa_maths": "math",
    "qa_stock": "stock",
    "recommendation_events": "event",
    "recommendation_locations": "place",
    "recommendation_movies": "movie",
    "social_post": "post",
    "social_query": "friends",
    "takeaway_order": "order",
    "takeaway_query": "delivery",
    "transport_query": "route",
    "transport_taxi": "taxi",
    "transport_ticket": "ticket",
    "transport_traffic": "traffic",
    "weather_query": "weather",
}

HIERARCHIES = {
    "hwu64": HierarchicalDataSet("HWU64", None, ("scenario", "intent"), _HWU64, {"examples_per_class": 5}),
    "trec": HierarchicalDataSet(
        "TREC",
        "CogComp/trec",
        ("coarse_label", "fine_label"),
        {
            **_TREC_LEVEL_1,
            **{f"{top}:{name}": word for top, below in _TREC_LEVEL_2.items() for name, word in below.items()},
        },
        {"train_fraction": 0.1},
    ),
}
