{{/* An image: list of the context and the part. */}}
{{- define "headrace.image" -}}
{{- $context := index . 0 -}}
{{- $image := index $context.Values.images (index . 1) -}}
{{- with $context.Values.global.imageRegistry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $context.Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{/* A container's image and how it is pulled; the last lines of its log tell why it failed. */}}
{{- define "headrace.container.image" -}}
image: {{ include "headrace.image" . | quote }}
imagePullPolicy: {{ (index . 0).Values.images.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end -}}

{{/* What the restricted Pod Security profile asks of a container, and no more rights than that. */}}
{{- define "headrace.container.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* What the profile asks of a pod, how its images are pulled, and where it may run. */}}
{{- define "headrace.pod" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with .Values.operator.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
