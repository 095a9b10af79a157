#!/usr/bin/env python3
"""Writes testdata/occurrences.json.gz: what python3-dateutil answers to random
rules, for TestOccurrencesAreThoseOfDateutil.

    apt-get install python3-dateutil   (or pip install python-dateutil==2.9.0)
    python3 change/schedule/scripts/occurrences.py

The rules are expanded by dateutil.rrule on naive, that is local, times, and each
occurrence is converted to UTC by zoneinfo with fold=0, which is what RFC 5545,
3.3.5 says: a local time that comes twice is the first, one that does not exist is
taken with the offset from before the gap (PEP 495). dateutil.tz would do the same
(with resolve_imaginary), but is wrong where winter time is the one that saves
(Dublin, Casablanca) and some more; how often is printed. An instant that two local
times become is there once.

Where dateutil is known to differ from RFC 5545 the answer is made by asking it
otherwise, and the case says which:

  first week     With FREQ=WEEKLY and BYSETPOS it counts positions in the first
                 week from DTSTART on, and not in the week. It is asked from the
                 begin of that week on, and what is before DTSTART is left out.
  week alone     With BYWEEKNO and nothing else that says a day it takes all seven
                 days of the week. "Information not contained in the rule is
                 derived from DTSTART": it is asked with DTSTART's day as BYDAY.
  mixed days     Of BYDAY=MO,2TU it takes what is both, which is nothing. It is asked
                 with every number of Monday.
  week of next   A negative BYWEEKNO that means the first week of the next year, and
                 BYWEEKNO of the last week of the last year, it does not find for
                 the days that are in this year. Their weeks are counted with
                 datetime.isocalendar, so that such rules have WKST=MO.
  until          UNTIL in UTC cannot be compared with naive times: it is applied
                 to the instants.

The random numbers are seeded; the years are those of which zone data are settled.
"""

import datetime as dt
import gzip
import io
import json
import os
import random
import zoneinfo

from dateutil import rrule, tz

CASES = 2000
FIRST = 16  # occurrences of each case from its start on, and from a later time on
CAP = dt.datetime(2036, 12, 1)  # of what is asked
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Europe/London", "Europe/Dublin", "Australia/Lord_Howe",
    "Pacific/Apia", "America/Sao_Paulo", "Asia/Tehran", "Africa/Casablanca", "Asia/Kathmandu", "America/St_Johns",
    "Pacific/Chatham", "Antarctica/Troll", "Africa/Cairo", "Asia/Gaza", "America/Caracas", "Asia/Pyongyang",
    "Pacific/Kiritimati", "America/Havana", "Asia/Kolkata", "America/Santiago", "Australia/Sydney", "Asia/Tokyo",
]
DAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
SUBDAY = ("HOURLY", "MINUTELY", "SECONDLY")
UTC = dt.timezone.utc


def pick(r, population, most):
    return sorted(r.sample(population, r.randint(1, min(most, len(population)))))


def instant(local, name):
    """Returns the seconds from 1970 of a naive local time, and what was odd about it."""
    aware = local.replace(tzinfo=zoneinfo.ZoneInfo(name), fold=0)
    odd = ""
    if aware.astimezone(UTC).astimezone(aware.tzinfo).replace(tzinfo=None) != local:
        odd = "imaginary"
    elif aware.utcoffset() != aware.replace(fold=1).utcoffset():
        odd = "ambiguous"
    at = int((local - aware.utcoffset()).replace(tzinfo=UTC).timestamp())
    other = tz.resolve_imaginary(local.replace(tzinfo=tz.gettz(name), fold=0)).astimezone(tz.UTC).timestamp()
    if other != at:
        otherwise[name] = otherwise.get(name, 0) + 1
    return at, odd


otherwise = {}  # times at which dateutil.tz has another answer, by zone


def start(r, zone):
    """Returns a local time: of most in or by the hour that a change of the clock leaves out or brings twice, some days before it."""
    changes = [t for t in getattr(zone, "_trans_list_utc", []) or [] if 631152000 < t < 1767225600]
    if changes and r.random() < 0.8:
        t = r.choice(changes)
        before = dt.datetime.fromtimestamp(t - 1, UTC).astimezone(zone).utcoffset()
        wall = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=t + r.choice([-3600, -1800, -900, 0, 0, 600, 1800, 2700, 5401])) + before
        return wall - dt.timedelta(days=r.choice([0, 1, 2, 3, 7, 14, 28, 30, 365]), hours=r.choice([0, 0, 0, 1]))
    return dt.datetime(1990, 1, 1) + dt.timedelta(seconds=r.randrange(0, 35 * 365 * 86400, 60))


def rule(r):
    freq = r.choice(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"])
    p = {"FREQ": freq}
    plain = r.random() < 0.4
    chance = lambda q: r.random() < (q / 4 if plain else q)
    if chance(0.5):
        p["INTERVAL"] = r.choice([1, 2, 3, 4, 5, 6, 7, 10, 12])
    if freq in SUBDAY:
        p["INTERVAL"] = {"HOURLY": r.choice([1, 1, 2, 5, 12, 25, 100]), "MINUTELY": r.choice([10, 15, 30, 45, 90, 1441]),
                         "SECONDLY": r.choice([600, 1800, 5400, 90000])}[freq]
    if chance(0.3):
        p["BYMONTH"] = pick(r, range(1, 13), 5)
    if freq == "YEARLY" and chance(0.3):
        p["BYWEEKNO"] = pick(r, [-53, -52, -2, -1, 1, 2, 10, 20, 51, 52, 53], 3)
    if freq in ("YEARLY",) + SUBDAY and "BYWEEKNO" not in p and chance(0.2):
        p["BYYEARDAY"] = pick(r, [-366, -365, -100, -1, 1, 2, 60, 61, 100, 200, 300, 365, 366], 6)
    if freq != "WEEKLY" and "BYWEEKNO" not in p and chance(0.3):
        p["BYMONTHDAY"] = pick(r, [-31, -30, -29, -7, -2, -1, 1, 2, 10, 13, 15, 28, 29, 30, 31], 6)
    if chance(0.45):
        days = pick(r, range(7), 4)
        if freq in ("YEARLY", "MONTHLY") and "BYWEEKNO" not in p and chance(0.6):
            most = 5 if freq == "MONTHLY" or "BYMONTH" in p else 53
            p["BYDAY"] = [str(r.choice([1, 2, 3, 4, -1, -2, 5, -5, most, -most])) + DAYS[d] if chance(0.8) else DAYS[d] for d in days]
        else:
            p["BYDAY"] = [DAYS[d] for d in days]
    if chance(0.3):
        p["BYHOUR"] = pick(r, range(24), 4) if chance(0.5) else pick(r, range(4), 3)
    if chance(0.2):
        p["BYMINUTE"] = pick(r, [0, 1, 15, 29, 30, 45, 59], 3)
    if freq not in SUBDAY and chance(0.1):
        p["BYSECOND"] = pick(r, [0, 1, 30, 59], 2)
    if chance(0.3) and any(k.startswith("BY") for k in p):
        p["BYSETPOS"] = pick(r, [-3, -2, -1, 1, 2, 3, 5], 3)
    if "BYWEEKNO" not in p and chance(0.3):
        p["WKST"] = r.choice(DAYS)
    return p


def text(p):
    return ";".join(k + "=" + (",".join(map(str, v)) if isinstance(v, list) else str(v)) for k, v in p.items())


def cap(p, begin):
    """Returns up to when dateutil is asked: it goes through every hour, minute or second there is."""
    days = {"HOURLY": 400, "MINUTELY": 100, "SECONDLY": 100}
    return min(CAP, begin + dt.timedelta(days=days[p["FREQ"]])) if p["FREQ"] in days else CAP


def expand(p, begin):
    """Yields the naive occurrences of p from begin on, as dateutil has them."""
    key = {"BYDAY": "byweekday"}
    args = {}
    for k, v in p.items():
        if k in ("FREQ", "COUNT", "UNTIL"):
            continue
        if k == "WKST":
            v = DAYS.index(v)
        if k == "BYDAY":
            v = [getattr(rrule, d[-2:])(int(d[:-2])) if len(d) > 2 else getattr(rrule, d) for d in v]
        args[key.get(k, k.lower())] = v
    until = cap(p, begin)
    dt.MAXYEAR = until.year  # or else dateutil looks for the first occurrence up to the year 9999
    try:
        yield from rrule.rrule(getattr(rrule, p["FREQ"]), dtstart=begin, until=until, **args)
    except ValueError as e:
        if "generates an empty set" not in str(e) and "resulting in empty rule" not in str(e):
            raise


def weeks(p, begin):
    """Yields the occurrences of a yearly rule with BYWEEKNO, whose weeks start on Monday, by isocalendar."""
    q = {k: v for k, v in p.items() if k not in ("BYWEEKNO", "BYSETPOS", "FREQ", "INTERVAL")} | {"FREQ": "DAILY"}
    first = dt.datetime(begin.year, 1, 1, begin.hour, begin.minute, begin.second)
    years = {}
    for o in expand(q, first):
        year, week, _ = o.isocalendar()
        of = dt.date(year, 12, 28).isocalendar()[1]
        if week in p["BYWEEKNO"] or week - of - 1 in p["BYWEEKNO"]:
            years.setdefault(o.year, []).append(o)
    for year in sorted(years):
        if (year - begin.year) % p.get("INTERVAL", 1):
            continue
        list = years[year]
        if "BYSETPOS" in p:
            n = len(list)
            at = {i - 1 if i > 0 else n + i for i in p["BYSETPOS"]}
            list = [o for i, o in enumerate(list) if i in at]
        yield from (o for o in list if o >= begin)


def occurrences(p, begin):
    """Yields the naive occurrences of p from begin on, as RFC 5545 has them, without COUNT and UNTIL."""
    p = {k: v for k, v in p.items() if k not in ("COUNT", "UNTIL")}
    if "BYWEEKNO" in p:
        if "BYDAY" not in p:
            p["BYDAY"] = [DAYS[begin.weekday()]]
        yield from weeks(p, begin)
        return
    if p["FREQ"] == "WEEKLY" and "BYSETPOS" in p:
        p.setdefault("BYDAY", [DAYS[begin.weekday()]])
        for k, v in (("BYHOUR", begin.hour), ("BYMINUTE", begin.minute), ("BYSECOND", begin.second)):
            p.setdefault(k, [v])
        back = (begin.weekday() - DAYS.index(p.get("WKST", "MO"))) % 7
        first = dt.datetime(begin.year, begin.month, begin.day) - dt.timedelta(days=back)
        yield from (o for o in expand(p, first) if o >= begin)
        return
    if mixed(p):
        most = 5 if p["FREQ"] == "MONTHLY" or "BYMONTH" in p else 53
        p["BYDAY"] = [d for one in p["BYDAY"] for d in ([one] if len(one) > 2 else [str(n) + one for n in range(1, most + 1)])]
    yield from expand(p, begin)


def mixed(p):
    return len({len(d) > 2 for d in p.get("BYDAY", [])}) == 2


def utc(p, begin, name, after=None):
    """Returns the first instants of p, from one on, and how many were odd."""
    odd = {"imaginary": 0, "ambiguous": 0}
    found, count, until, enough, last = [], p.get("COUNT"), None, None, None
    if "UNTIL" in p:
        u = p["UNTIL"]
        until = dt.datetime.strptime(u, "%Y%m%dT%H%M%SZ" if u.endswith("Z") else "%Y%m%dT%H%M%S")
    for o in occurrences(p, begin):
        if enough and o > enough:
            break
        if count is not None:
            if count == 0:
                break
            count -= 1
        if until and not p["UNTIL"].endswith("Z") and o > until:
            break
        at, which = instant(o, name)
        if until and p["UNTIL"].endswith("Z") and at > until.replace(tzinfo=UTC).timestamp():
            if o > until + dt.timedelta(days=3):
                break
            continue
        if after is not None and at < after:
            continue
        found.append((at, which))
        if len(found) == FIRST and not enough:
            enough = o + dt.timedelta(days=3)
    found = sorted(set(found))
    distinct = sorted({at for at, _ in found})[:FIRST]
    for at, which in found:
        if which and distinct and at <= distinct[-1]:
            odd[which] += 1
    return distinct, odd


def case(r):
    name = r.choice(ZONES)
    zone = tz.gettz(name)
    begin, p = start(r, zone), rule(r)
    which = []
    if "BYWEEKNO" in p:
        which.append("week of next")
        if "BYDAY" not in p:
            which.append("week alone")
    if p["FREQ"] == "WEEKLY" and "BYSETPOS" in p:
        which.append("first week")
    if mixed(p):
        which.append("mixed days")
    end = r.random()
    if end < 0.25:
        p["COUNT"] = r.randint(1, FIRST)
        if len(utc(p, begin, name)[0]) < p["COUNT"]:
            del p["COUNT"]  # it would end too late, or never
    elif end < 0.5:
        far = dt.timedelta(days=r.choice([1, 2, 30, 400, 3000]), minutes=r.randrange(0, 1440))
        p["UNTIL"] = (begin + far).strftime("%Y%m%dT%H%M%S") + r.choice(["", "Z"])
        if p["UNTIL"].endswith("Z"):
            which.append("until")
    span = dt.timedelta(days=40) if p["FREQ"] in SUBDAY else (CAP - begin) / 2
    later = int((begin + span * r.random()).replace(tzinfo=UTC).timestamp())
    changes = [t for t in getattr(zone, "_trans_list_utc", []) or [] if begin.replace(tzinfo=UTC).timestamp() < t < cap(p, begin).replace(tzinfo=UTC).timestamp()]
    if changes and r.random() < 0.7:
        days = 1 if p["FREQ"] in SUBDAY else 5 if p["FREQ"] == "DAILY" else 30
        later = r.choice(changes) - r.randrange(0, days * 86400, 1800)
    first, odd = utc(p, begin, name)
    more, odder = utc(p, begin, name, later)
    for k in odd:
        odd[k] += odder[k]
    raw = [] if "until" in which else [o for o, _ in zip(expand(p, begin), range(FIRST))]
    rfc = [] if "until" in which else [o for o, _ in zip(occurrences(p, begin), range(FIRST))]
    return {"zone": name, "start": begin.isoformat(), "rule": text(p), "first": first, "from": later, "then": more, "cap": int(cap(p, begin).replace(tzinfo=UTC).timestamp()),
            "asked": which, "differs": raw != rfc} | odd


def main():
    r = random.Random(5545)
    cases = []
    while len(cases) < CASES:
        c = case(r)
        if c["first"] or r.random() < 0.1:  # of those that never occur a few are enough
            cases.append(c)
    here = os.path.dirname(os.path.abspath(__file__))
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0, compresslevel=9) as f:
        for c in cases:
            f.write((json.dumps(c, separators=(",", ":")) + "\n").encode())
    with open(os.path.join(here, "..", "testdata", "occurrences.json.gz"), "wb") as f:
        f.write(out.getvalue())
    print(len(cases), "cases,", len(out.getvalue()), "bytes,", sum(not c["first"] for c in cases), "without an occurrence,",
          sum(c["imaginary"] for c in cases), "imaginary,", sum(c["ambiguous"] for c in cases), "ambiguous")
    print("dateutil.tz is otherwise for", otherwise)
    for which in ("first week", "week alone", "week of next", "mixed days", "until", ""):
        of = [c for c in cases if which in c["asked"] or not which and not c["asked"]]
        print(which or "as it is", len(of), "cases,", sum(c["differs"] for c in of), "in which dateutil as it is differs")


main()
