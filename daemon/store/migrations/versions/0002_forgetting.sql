-- What is old enough to be forgotten is asked for every minute, over tables that keep months: each by its own index.
CREATE INDEX incident_forgotten ON incident (ended) WHERE phase = 'resolved';
CREATE INDEX notice_forgotten ON notice (at);
CREATE INDEX directive_forgotten ON directive (obeyed) WHERE obeyed IS NOT NULL;
