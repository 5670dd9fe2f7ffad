"""A program that streams with a real SDK, for the Python that has it: says when its answer has begun, and what became of it.

Arguments: the address, the API, the model, the prompt.
"""

import json
import sys

url, api, model, prompt = sys.argv[1:]
if api == "messages":
    import anthropic

    ASKED = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 50}
    CREATE, ERROR = (
        anthropic.Anthropic(base_url=url, api_key="none", max_retries=0).messages.create,
        anthropic.APIError,
    )
else:
    import openai

    client, ERROR = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0), openai.APIError
    CREATE = client.responses.create if api == "responses" else client.chat.completions.create
    ASKED = {"model": model, "input" if api == "responses" else "messages": [{"role": "user", "content": prompt}]}


def text(event):
    if api == "chat":
        return "".join(choice.delta.content or "" for choice in event.choices)
    if api == "responses":
        return event.delta if event.type == "response.output_text.delta" else ""
    return event.delta.text if event.type == "content_block_delta" else ""


try:
    stream = CREATE(**ASKED, stream=True, extra_body={"num_retries": 0}, timeout=100)
    print("begun", flush=True)
    told = {"said": "".join(map(text, stream))}
except ERROR as error:
    told = {"raised": str(error)}
print(json.dumps(told))
