"""What Prometheus makes of a page."""

from prometheus_client.parser import text_string_to_metric_families

from ccproxy_supervisor.core.exposition import page


def parsed(text):
    """Every sample, as name{label=value}… without quotes."""
    return {
        sample.name + "".join(f"{{{k}={v}}}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def samples(collector):
    return parsed(page(collector.collect(), "")[0].decode())
