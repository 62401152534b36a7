"""The Django app of the end-to-end tests, a project in one file; wsgi.py says what it answers."""
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse, StreamingHttpResponse
from django.urls import path

import wsgi

settings.configure(SECRET_KEY="signs nothing", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)


def seen(request):
    return JsonResponse({
        "method": request.method,
        "path": request.path,
        "query": request.META["QUERY_STRING"],
        "fields": wsgi.fields(request.META),
    })


def echo(request):
    return JsonResponse(wsgi.echo(request))


def stream(request):
    return StreamingHttpResponse(wsgi.stream(request.META["QUERY_STRING"]), content_type="text/plain")


urlpatterns = [path("", seen), path("echo", echo), path("stream", stream)]
app = get_wsgi_application()
