"""The simulator's state, shown as JSON or as a page."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from sandbox.aws import identity, motostores, storage
from sandbox.aws.pipelines import Execution
from sandbox.aws.regions import Region, Regions

_SHOWN = 10
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c2733}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;width:100%;table-layout:fixed}th,td{text-align:left;padding:.3rem .8rem .3rem 0;
border-bottom:1px solid #dde3e9;vertical-align:top}th{font-weight:600;color:#52606d}
td{overflow-wrap:anywhere}code{font-size:.9em}small{color:#52606d}.ok{color:#12703a}.bad{color:#b3261e}.run{color:#1257a8}
"""


def state_json(regions: Regions) -> dict[str, Any]:
    """Stacks, pipelines with their executions, projects, roles, buckets, and resources without a stack.

    `leftovers` are the resources that a stack released; `unmanaged` are those that no stack ever had, such as the log
    groups that CodeBuild creates.
    """
    return {
        "stacks": [
            {
                "id": s.id,
                "name": s.name,
                **region.place.as_fields(),
                "status": s.status,
                "reason": s.reason,
                "tags": s.tags,
                "parameters": {
                    k: v for k, v in s.plan.parameters.items() if not s.plan.template.is_secret(k)
                },
                "outputs": {o["OutputKey"]: o["OutputValue"] for o in s.outputs},
                "resources": {r.logical_id: r.physical_id for r in s.resources.values()},
                "created": s.created.isoformat(),
                "protected": s.protected,
            }
            for region in regions
            for s in region.stacks.live.values()
        ],
        "deleted_stacks": [
            {"id": s.id, "name": s.name, **region.place.as_fields()}
            for region in regions
            for s in region.stacks.gone.values()
        ],
        "pipelines": [
            {
                "name": p.name,
                **region.place.as_fields(),
                "version": p.version,
                "tags": p.tags,
                "executions": [_execution_fields(e) for e in p.executions.values()],
            }
            for region in regions
            for p in region.pipelines.all.values()
        ],
        "projects": [
            {"name": name, **region.place.as_fields()} for region in regions for name in region.projects
        ],
        "roles": [
            {"name": name, "arn": role.arn, "account": account}
            for account in identity.known_accounts()
            for name, role in identity.roles_by_name(account).items()
        ],
        "buckets": {name: len(storage.object_keys(name)) for name in storage.bucket_names()},
        "bucket_places": {name: storage.bucket_place(name).as_fields() for name in storage.bucket_names()},
        "leftovers": [left for region in regions for left in _leftovers(region)],
        "unmanaged": _unmanaged(regions),
    }


def _leftovers(region: Region) -> Iterator[dict[str, str]]:
    """The resources that a stack did not delete and that still exist."""
    for stack, resource in region.stacks.leftovers:
        if region.stacks.handlers[resource.type].exists(resource):
            yield {
                "stack": stack.name,
                "stack_id": stack.id,
                **region.place.as_fields(),
                "logical_id": resource.logical_id,
                "type": resource.type,
                "id": resource.physical_id,
            }


def _unmanaged(regions: Regions) -> list[dict[str, str]]:
    """The resources that exist and are neither those of a stack nor left by one; buckets are listed apart."""
    managed = {
        (region.place.account, resource.type, resource.physical_id)
        for region in regions
        for stack in region.stacks.live.values()
        for resource in [*stack.resources.values(), *stack.superseded]
    }
    managed |= {
        (region.place.account, resource.type, resource.physical_id)
        for region in regions
        for _, resource in region.stacks.leftovers
    }
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for region in regions:
        for kind, physical_id in motostores.existing_resources(region.place):
            place = region.place.as_fields()
            found[region.place.account, kind, physical_id] = {**place, "type": kind, "id": physical_id}
    return [shown for key, shown in found.items() if key not in managed]


def limits_json(regions: Regions) -> list[dict[str, Any]]:
    """How many stacks and pipelines each region has, and how many it allows."""
    return [
        {
            **region.place.as_fields(),
            "stacks": region.stacks.limit,
            "pipelines": region.pipelines.limit,
            "stacks_used": len(region.stacks.live),
            "pipelines_used": len(region.pipelines.all),
        }
        for region in regions
    ]


def execution_history(regions: Regions) -> list[dict[str, Any]]:
    """Every execution in the order of its start, including those of deleted pipelines.

    `pinned` is the commit that the start request named.
    """
    every = (entry for region in regions for entry in region.pipelines.history)
    return [
        {
            "pipeline": pipeline.name,
            **pipeline.place.as_fields(),
            "pipeline_created": pipeline.created.isoformat(),
            "pinned": next(iter(execution.pins.values()), None),
            **{k: v for k, v in _execution_fields(execution).items() if k != "stages"},
        }
        for pipeline, execution in sorted(every, key=lambda entry: entry[1].started)
    ]


def _execution_fields(execution: Execution) -> dict[str, Any]:
    return {
        "id": execution.id,
        "sha": execution.revisions[0].sha if execution.revisions else None,
        "status": execution.status,
        "trigger": execution.trigger,
        "trigger_detail": execution.trigger_detail,
        "start": execution.started.isoformat(),
        "updated": execution.updated.isoformat(),
        "stages": [
            {
                "name": stage.name,
                "status": stage.status,
                "actions": [
                    {
                        "name": a.name,
                        "status": a.status,
                        "url": a.external_url,
                        "error": a.error["message"] if a.error else None,
                    }
                    for a in stage.actions.values()
                ],
            }
            for stage in execution.stages.values()
        ],
    }


def html_page(regions: Regions) -> str:
    """The state as an HTML page."""
    shown = state_json(regions)
    stack_rows = [
        f"<tr><td>{escape(s['name'])}{_small_html(_place_name(s))}</td><td>{_status_html(s['status'])}"
        f"{_small_html(s['reason'])}</td><td>{_small_html(_pairs_html(s['tags']))}</td></tr>"
        for s in shown["stacks"]
    ]
    pipeline_parts = [_pipeline_html(p) for p in shown["pipelines"]]
    bucket_rows = [
        f"<tr><td>{_bucket_html(name)}{_small_html(_place_name(shown['bucket_places'][name]))}</td>"
        f"<td>{count} objects</td></tr>"
        for name, count in shown["buckets"].items()
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Simulated AWS</title>'
        '<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="5">'
        f"<style>{_STYLE}</style></head><body><h1>Simulated AWS</h1>"
        f"<h2>Stacks</h2>{_table_html(('Name', 'Status', 'Tags'), stack_rows)}"
        f"<h2>Pipelines</h2>{''.join(pipeline_parts) or '<p>None.</p>'}"
        f"<h2>Buckets</h2>{_table_html(('Name', 'Content'), bucket_rows)}</body></html>"
    )


def _bucket_html(name: str) -> str:
    """A bucket's name, as a link if the bucket holds a website."""
    return (
        _link_html(f"/{name}/index.html", name) if "index.html" in storage.object_keys(name) else escape(name)
    )


def _pipeline_html(pipeline: dict[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{escape((e['sha'] or '-')[:7])}</code></td><td>{_status_html(e['status'])}</td>"
        f"<td>{escape(e['trigger'])}</td><td>{escape(e['start'][11:19])}</td>"
        f"<td>{'<br>'.join(_stage_html(s) for s in e['stages'])}</td></tr>"
        for e in pipeline["executions"][: -_SHOWN - 1 : -1]
    ]
    details = f"version {pipeline['version']}, {_place_name(pipeline)}"
    heading = f"<h3>{escape(pipeline['name'])} <small>{escape(details)}</small></h3>"
    return heading + _table_html(("Commit", "Status", "Started by", "At", "Stages"), rows)


def _stage_html(stage: dict[str, Any]) -> str:
    actions = [
        f"{_link_html(a['url'], a['name']) if a['url'] else escape(a['name'])} {_status_html(a['status'])}"
        f"{_small_html(a['error'])}"
        for a in stage["actions"]
    ]
    return f"<b>{escape(stage['name'])}</b>: {', '.join(actions)}"


def _place_name(shown: dict[str, Any]) -> str:
    return f"{shown['region']} {shown['account']}"


def _link_html(url: str, text: str) -> str:
    return f'<a href="{escape(url)}">{escape(text)}</a>'


def _status_html(status: str) -> str:
    good = status in ("Succeeded", "CREATE_COMPLETE", "UPDATE_COMPLETE")
    running = status.endswith(("InProgress", "_IN_PROGRESS", "Stopping"))
    return f'<span class="{"ok" if good else "run" if running else "bad"}">{escape(status)}</span>'


def _small_html(text: str | None) -> str:
    return f"<br><small>{escape(text)}</small>" if text else ""


def _pairs_html(tags: dict[str, str]) -> str:
    return ", ".join(f"{k}={v}" for k, v in tags.items())


def _table_html(headings: tuple[str, ...], rows: list[str]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{h}</th>" for h in headings)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
