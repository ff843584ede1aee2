{{/* Labels of every object of the release. */}}
{{- define "headrace.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: headrace
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{/* What selects the operator's pods; workers let these in by the name. */}}
{{- define "headrace.operator.selector" -}}
app.kubernetes.io/name: headrace-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of the operator's objects. */}}
{{- define "headrace.operator.labels" -}}
app.kubernetes.io/name: headrace-operator
app.kubernetes.io/component: operator
{{ include "headrace.labels" . }}
{{- end -}}

{{/* Labels of the operator's pods: without the chart's version, which alone is no reason to start them anew. */}}
{{- define "headrace.operator.pod.labels" -}}
{{ include "headrace.operator.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: headrace
{{- end -}}

{{/* Labels of what runs once: the Job of the resources, the pods of the test. */}}
{{- define "headrace.task.labels" -}}
app.kubernetes.io/name: headrace-task
app.kubernetes.io/component: task
{{ include "headrace.labels" . }}
{{- end -}}
