{{/*
An entry of `initContainers`: the sidecar. Called with the chart's root context; reads `.Values.pgswivel`.

    initContainers:
      {{- include "pgswivel.sidecar" . | nindent 8 }}
*/}}
{{- define "pgswivel.sidecar" -}}
{{- $values := .Values.pgswivel -}}
{{- /* Said here, because a sidecar without them would only fail once it runs. */ -}}
{{- if not $values.config }}
{{- $_ := required "pgswivel.upstream is required without pgswivel.config" $values.upstream }}
{{- $_ := required "pgswivel.secret is required without pgswivel.config" $values.secret }}
{{- end -}}
- name: pgswivel
  image: {{ printf "%s:%s" $values.image.repository ($values.image.tag | default (index .Subcharts "pgswivel").Chart.AppVersion) | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  # What makes it a sidecar: started before the application, stopped after it.
  restartPolicy: Always
  {{- if $values.config }}
  args: [run, --config, /etc/pgswivel/config/pgswivel.toml]
  {{- else }}
  args: [run]
  {{- end }}
  env:
    {{- if not $values.config }}
    - name: PGSWIVEL_UPSTREAM
      value: {{ $values.upstream | quote }}
    - name: PGSWIVEL_SECRET
      value: {{ $values.secret | quote }}
    {{- end }}
    # A kubelet probes the pod's address.
    - name: PGSWIVEL_ADMIN
      value: 0.0.0.0:9632
    - name: PGSWIVEL_PASSWORD
      {{- include "pgswivel.localPassword" . | nindent 6 }}
    {{- with $values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - name: pgswivel-admin
      containerPort: 9632
  # The application is started when this succeeds.
  startupProbe:
    httpGet: { path: /startupz, port: pgswivel-admin }
    periodSeconds: 1
    failureThreshold: {{ $values.startup.patienceSeconds }}
  readinessProbe:
    httpGet: { path: /readyz, port: pgswivel-admin }
    periodSeconds: 5
    # It answers no only when nobody is left whom that would cost anything: no session is open, and `patience`
    # (30 s) is over for those that wait. Three times, so that a probe lost on a busy node is no answer.
    timeoutSeconds: 2
    failureThreshold: 3
  livenessProbe:
    httpGet: { path: /livez, port: pgswivel-admin }
    periodSeconds: 10
    # It says by itself after two seconds that the event loop is stuck; half a minute of that is no busy moment.
    timeoutSeconds: 3
    failureThreshold: 3
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  securityContext:
    allowPrivilegeEscalation: false
    capabilities: { drop: [ALL] }
    readOnlyRootFilesystem: true
    runAsNonRoot: true
    runAsUser: 65532
    seccompProfile: { type: RuntimeDefault }
  {{- if or $values.config $values.extraVolumeMounts }}
  volumeMounts:
    {{- if $values.config }}
    # The directory: with subPath, no change would ever reach the process.
    - { name: pgswivel-config, mountPath: /etc/pgswivel/config, readOnly: true }
    {{- end }}
    {{- with $values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end }}

{{/*
Entries of the application's `env`: LOCAL_PASSWORD and DATABASE_URL. Called with a list: the root context, the role, the
database.

    env:
      {{- include "pgswivel.applicationEnv" (list . "app" "orders") | nindent 12 }}
*/}}
{{- define "pgswivel.applicationEnv" -}}
{{- $root := index . 0 -}}
- name: LOCAL_PASSWORD
  {{- include "pgswivel.localPassword" $root | nindent 2 }}
# Kubernetes fills in what is defined above it. No TLS: it never leaves the pod.
- name: DATABASE_URL
  value: {{ printf "postgres://%s:$(LOCAL_PASSWORD)@127.0.0.1:6432/%s?sslmode=disable" (index . 1) (index . 2) | quote }}
{{- end }}

{{- define "pgswivel.localPassword" -}}
{{- $local := .Values.pgswivel.localPassword -}}
valueFrom:
  secretKeyRef:
    name: {{ required "pgswivel.localPassword.secretName is required" $local.secretName | quote }}
    key: {{ $local.key | quote }}
{{- end }}

{{/* Entries of the pod's `volumes`; nothing without `config`. */}}
{{- define "pgswivel.volumes" -}}
{{- if .Values.pgswivel.config -}}
- name: pgswivel-config
  configMap: { name: {{ include "pgswivel.configMapName" . }} }
{{- end }}
{{- end }}

{{- define "pgswivel.configMapName" -}}
{{ printf "%s-pgswivel" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The ConfigMap with pgswivel.toml, a manifest of its own; nothing without `config`. */}}
{{- define "pgswivel.configmap" -}}
{{- if .Values.pgswivel.config -}}
apiVersion: v1
kind: ConfigMap
metadata:
  # No hash of the content in the name or in an annotation of the pods: running sidecars apply the change themselves.
  name: {{ include "pgswivel.configMapName" . }}
data:
  pgswivel.toml: |
    {{- .Values.pgswivel.config | nindent 4 }}
{{- end }}
{{- end }}
