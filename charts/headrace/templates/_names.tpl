{{/* What every object's name begins with. */}}
{{- define "headrace.fullname" -}}
{{- $own := contains "headrace" .Release.Name | ternary .Release.Name (printf "%s-headrace" .Release.Name) -}}
{{- default $own .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the operator: its Deployment, Service, roles, budget and policy. */}}
{{- define "headrace.operator" -}}
{{ include "headrace.fullname" . }}-operator
{{- end -}}

{{/* Name of the Service by which KEDA reaches the operator that leads. */}}
{{- define "headrace.scaler" -}}
{{ include "headrace.operator" . }}-scaler
{{- end -}}

{{/* Name of the operator's account. */}}
{{- define "headrace.account" -}}
{{- default (.Values.serviceAccount.create | ternary (include "headrace.operator" .) "default") .Values.serviceAccount.name -}}
{{- end -}}

{{/* Name of the Secret with the installation's own secret. */}}
{{- define "headrace.key" -}}
{{- default (printf "%s-key" (include "headrace.operator" .)) .Values.operator.keySecret -}}
{{- end -}}

{{/* Name of what applies the resources of the values: a Job, its account and its roles. */}}
{{- define "headrace.resources" -}}
{{ include "headrace.fullname" . }}-resources
{{- end -}}

{{/* A name that may be too long, cut: list of its parts. */}}
{{- define "headrace.composed" -}}
{{- $whole := join "-" . -}}
{{- if le (len $whole) 63 -}}{{ $whole }}{{- else -}}{{ $whole | trunc 54 | trimSuffix "-" }}-{{ $whole | sha256sum | trunc 8 }}{{- end -}}
{{- end -}}

{{/* The resources of the values, as YAML list: their manifest, and the namespace and name of the ConfigMap that holds it. */}}
{{- define "headrace.wanted" -}}
{{- $found := list -}}
{{- $kinds := dict "LLMDeployment" .Values.deployments "LLMRouter" .Values.routers -}}
{{- range $kind := list "LLMDeployment" "LLMRouter" -}}
{{- range $entry := get $kinds $kind -}}
{{- $namespace := default $.Release.Namespace $entry.namespace -}}
{{- if and $.Values.watchNamespaces (not (has $namespace $.Values.watchNamespaces)) -}}
{{- fail (printf "%s %s is in namespace %s, which the operator does not serve: add it to watchNamespaces, which has %s" $kind $entry.name $namespace (join ", " $.Values.watchNamespaces)) -}}
{{- end -}}
{{- $map := include "headrace.composed" (list (include "headrace.fullname" $) (lower $kind) $entry.name) -}}
{{- $labels := merge (dict "app.kubernetes.io/managed-by" $.Release.Service "app.kubernetes.io/part-of" "headrace") (default dict $entry.labels) -}}
{{- $metadata := dict "name" $entry.name "namespace" $namespace "labels" $labels -}}
{{- with $entry.annotations }}{{ $_ := set $metadata "annotations" . }}{{ end -}}
{{- $manifest := dict "apiVersion" "serving.headrace.dev/v1alpha1" "kind" $kind "metadata" $metadata "spec" $entry.spec -}}
{{- range $other := $found -}}
{{- if and (eq $other.map $map) (eq $other.namespace $namespace) -}}
{{- fail (printf "there are two entries for %s %s in namespace %s: give one of them another name" $kind $entry.name $namespace) -}}
{{- end -}}
{{- end -}}
{{- $found = append $found (dict "map" $map "namespace" $namespace "manifest" $manifest) -}}
{{- end -}}
{{- end -}}
{{ toYaml $found }}
{{- end -}}
