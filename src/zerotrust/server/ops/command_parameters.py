"""Parameters of commands: values from outside become the model of a request."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from zerotrust.config.error_messages import plain_errors
from zerotrust.net.json_api import CallError

Parameters = TypeVar("Parameters", bound=BaseModel)


def parsed(model: type[Parameters], data: Mapping[str, Any]) -> Parameters:
    """Return the request that these values are.

    Raises:
        CallError: one of them is not valid; the message names it.
    """
    given = dict(data)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        path, _, message = plain_errors(error, given)[0]
        where = ".".join(map(str, path))
        raise CallError(f"{where}: {message}" if where else message) from None
