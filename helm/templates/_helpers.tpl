{{/* Names, labels, and what the three pods (daemon, migration, test) have in common. */}}

{{- define "orderheal.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* Some objects add a suffix, and a Deployment's pods add a hash: short enough for both. */}}
{{- define "orderheal.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 42 | trimSuffix "-" }}
{{- else if contains (include "orderheal.name" .) .Release.Name }}
{{- .Release.Name | trunc 42 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "orderheal.name" .) | trunc 42 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "orderheal.selectorLabels" -}}
app.kubernetes.io/name: {{ include "orderheal.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "orderheal.labels" -}}
{{ include "orderheal.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "orderheal.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "orderheal.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "orderheal.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* What a hook needs before the release's own objects are there is made as a hook itself and goes when the hooks are done. */}}
{{- define "orderheal.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* Mistakes that a schema cannot word. */}}
{{- define "orderheal.check" -}}
{{- $values := .Values }}
{{- if not (trim $values.config) }}
{{- fail "config is empty: hand over your config.yaml with --set-file config=config.yaml" }}
{{- end }}
{{- if and $values.existingSecret $values.externalSecret.enabled }}
{{- fail "existingSecret and externalSecret.enabled exclude each other: name your Secret, or have one made" }}
{{- end }}
{{- if not (or $values.existingSecret $values.externalSecret.enabled $values.extraEnv $values.extraVolumes) }}
{{- fail "no secrets: name the Secret with your addresses and tokens as existingSecret, or set externalSecret.enabled" }}
{{- end }}
{{- if and $values.externalSecret.enabled (not $values.externalSecret.secretStoreRef.name) }}
{{- fail "externalSecret.secretStoreRef.name is empty: name the SecretStore to read from" }}
{{- end }}
{{- if and $values.externalSecret.enabled (not (or $values.externalSecret.data $values.externalSecret.dataFrom)) }}
{{- fail "externalSecret has neither data nor dataFrom: say what to read" }}
{{- end }}
{{- if and $values.networkPolicy.enabled (not (or $values.networkPolicy.targets $values.networkPolicy.publicHttps)) }}
{{- fail "networkPolicy.targets is empty, so nothing could be reached: declare your databases and services, or set networkPolicy.enabled=false" }}
{{- end }}
{{- end }}

{{/* The data of the ConfigMap: texts as they are. chart.yaml is laid over config.yaml: what the chart itself decides. */}}
{{- define "orderheal.configData" -}}
{{- $rules := dict }}
{{- range $name, $text := .Values.rules }}
{{- $_ := set $rules (printf "rule.%s" $name) $text }}
{{- end }}
{{- $http := dict "listen" (printf "0.0.0.0:%d" (int .Values.service.port)) }}
{{- $own := dict "http" $http "rules" (dict "path" (ternary "/config/rules/" "/etc/orderheal/rules/" (not (empty .Values.rules)))) }}
{{- toYaml (merge (dict "config.yaml" .Values.config "chart.yaml" (toYaml $own)) $rules) }}
{{- end }}

{{/* The name of the Secret for the environment; the migration runs before the release's ExternalSecret is there. */}}
{{- define "orderheal.secretName" -}}
{{- .root.Values.existingSecret | default (printf "%s%s" (include "orderheal.fullname" .root) .suffix) }}
{{- end }}

{{- define "orderheal.externalSecretSpec" -}}
{{- with .root.Values.externalSecret }}
refreshInterval: {{ .refreshInterval }}
secretStoreRef:
  {{- toYaml .secretStoreRef | nindent 2 }}
target:
  name: {{ include "orderheal.secretName" $ }}
  creationPolicy: Owner
{{- with .data }}
data:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .dataFrom }}
dataFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "orderheal.externalSecretVersion" -}}
{{- $apis := .Capabilities.APIVersions }}
{{- if and ($apis.Has "external-secrets.io/v1beta1") (not ($apis.Has "external-secrets.io/v1")) -}}
external-secrets.io/v1beta1
{{- else -}}
external-secrets.io/v1
{{- end }}
{{- end }}

{{/* .root, .component: labels and annotations of a pod. */}}
{{- define "orderheal.podMetadata" -}}
labels:
  {{- include "orderheal.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* .root, .suffix (of the ConfigMap): the part of a pod's spec that all pods share. */}}
{{- define "orderheal.podSpec" -}}
{{- $values := .root.Values -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $values.podSecurityContext | nindent 2 }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
volumes:
  - name: config
    projected:
      sources:
        - configMap:
            name: {{ include "orderheal.fullname" .root }}{{ .suffix }}
            items:
              - {key: config.yaml, path: config.yaml}
              - {key: chart.yaml, path: chart.yaml}
              {{- range $name, $_ := $values.rules }}
              - {key: {{ printf "rule.%s" $name | quote }}, path: {{ printf "rules/%s" $name | quote }}}
              {{- end }}
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  - name: run
    emptyDir: {sizeLimit: 1Mi}
  {{- with $values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* .root, .suffix, .own (a configuration file of the pod itself, or nothing): the part that all containers share. */}}
{{- define "orderheal.container" -}}
{{- $values := .root.Values -}}
image: {{ include "orderheal.image" .root | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
securityContext:
  {{- toYaml $values.securityContext | nindent 2 }}
resources:
  {{- toYaml $values.resources | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
env:
  - name: ORDERHEAL_CONFIG
    value: /config/config.yaml:/config/chart.yaml{{ with .own }}:{{ . }}{{ end }}
  {{- with $values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or $values.existingSecret $values.externalSecret.enabled }}
envFrom:
  - secretRef:
      name: {{ include "orderheal.secretName" . }}
{{- end }}
volumeMounts:
  - {name: config, mountPath: /config, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  - {name: run, mountPath: /run/orderheal}
  {{- with $values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "orderheal.networkPolicyRules" -}}
{{- $policy := .Values.networkPolicy -}}
policyTypes: [Ingress, Egress]
ingress:
  {{- if $policy.metricsFrom }}
  - ports: [{protocol: TCP, port: {{ .Values.service.port }}}]
    from:
      {{- toYaml $policy.metricsFrom | nindent 6 }}
  {{- else }}
  []
  {{- end }}
egress:
  {{- if $policy.dns }}
  - ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
    to:
      {{- toYaml $policy.dns | nindent 6 }}
  {{- end }}
  {{- if $policy.publicHttps }}
  - ports: [{protocol: TCP, port: 443}]
    to:
      - ipBlock:
          cidr: 0.0.0.0/0
          except: [10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
      - ipBlock:
          cidr: ::/0
          except: [fc00::/7, fe80::/10]
  {{- end }}
  {{- range $policy.targets }}
  - # {{ .name }}
    ports:
      {{- range .ports }}
      - {protocol: TCP, port: {{ . }}}
      {{- end }}
    to:
      {{- toYaml .to | nindent 6 }}
  {{- end }}
{{- end }}
