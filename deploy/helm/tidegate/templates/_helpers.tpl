{{- define "tidegate.name" -}}{{ .Release.Name }}-webhook{{- end }}

{{- define "tidegate.selector" -}}
app.kubernetes.io/name: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
{{ include "tidegate.origin" . }}
{{- end }}

{{- define "tidegate.certSelector" -}}
app.kubernetes.io/name: {{ .Release.Name }}
app.kubernetes.io/component: webhook-cert
{{- end }}

{{- define "tidegate.certLabels" -}}
{{ include "tidegate.certSelector" . }}
{{ include "tidegate.origin" . }}
{{- end }}

{{- define "tidegate.origin" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "tidegate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "tidegate.secret" -}}{{ .Values.certificate.secretName | default (printf "%s-tls" (include "tidegate.name" .)) }}{{- end }}

{{- define "tidegate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "tidegate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- /* What holds for the pods of the webhook and of its certificate alike. */}}
{{- define "tidegate.placement" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tidegate.certPod" -}}
metadata:
  labels: {{- include "tidegate.certSelector" . | nindent 4 }}
spec:
  restartPolicy: OnFailure
  serviceAccountName: {{ include "tidegate.name" . }}-cert
  automountServiceAccountToken: true
  enableServiceLinks: false
  {{- include "tidegate.placement" . | nindent 2 }}
  securityContext: {{- include "tidegate.podSecurity" . | nindent 4 }}
  containers:
    - name: cert
      image: {{ include "tidegate.image" . }}
      {{- with .Values.image.pullPolicy }}
      imagePullPolicy: {{ . }}
      {{- end }}
      args:
        - webhook
        - cert
        - --apply
        - --namespace={{ .Release.Namespace }}
        - --secret={{ include "tidegate.secret" . }}
        - --service={{ include "tidegate.name" . }}
        - --configuration={{ .Release.Name }}
      resources:
        requests: { cpu: 20m, memory: 32Mi }
        limits: { memory: 64Mi }
      securityContext: {{- include "tidegate.containerSecurity" . | nindent 8 }}
{{- end }}
